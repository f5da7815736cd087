"""Bounds of connections to the console, and of what its users type and are shown."""

# Before a login --------------------------------------------------------------------------------------------------

MOST_WITHOUT_LOGIN = 16
"""Connections of one address that have not logged in, at most."""
BYTES_BEFORE_LOGIN = 2**15
"""The bytes that a connection may send before its login; a login with ten keys takes half of it."""
PIECE_READ = 512
"""Bytes that are read at a time: parsing them takes a fraction of a millisecond. Before a login it is one in a turn."""
TYPING_TIMES = 6
"""The time for a login at the console, where people type, as a multiple of ``login_seconds``."""
MOST_LOGIN_FAILURES = 6
"""Logins over SSH that may fail before the connection is closed."""
LARGEST_OFFERED_KEY = 2**12
"""Bytes of a public key: an RSA key of 16,384 bits, the longest that OpenSSH knows, has half as many."""
FAREWELL_SECONDS = 2.0
"""Seconds from a farewell until the connection is aborted."""

# A session -------------------------------------------------------------------------------------------------------

MOST_SESSIONS = 10
"""Sessions of one SSH connection at a time, as many as OpenSSH allows (MaxSessions)."""
MOST_VARIABLES = 32
"""Variables of the client's environment that a session keeps."""
LONGEST_VARIABLE = 1000
"""Bytes of a variable's name and value; a longer one is ignored."""
SMALLEST_SSH_PACKET = 2**10
"""Bytes of a packet that a client must take: what is shown would else be cut into thousands of them."""
NARROWEST_TERMINAL = 20
"""Columns that a terminal is believed to have, at least."""
LARGEST_TERMINAL = 1000
"""Columns, and rows, that a terminal is believed to have, at most."""

DESTINATIONS_TRIED = 8
"""Destinations that are tried from the console at the same time."""

# What is typed ---------------------------------------------------------------------------------------------------

READING_IN_TURN = 0.002
"""Seconds in which pieces of one connection are read in one iteration of the event loop, after its login; one that was
begun is read whole."""
KEYS_IN_TURN = 0.002
"""Seconds in which keys are taken in one iteration of the event loop; the one that was begun, which may enter a line,
is finished."""
LARGEST_TYPED_PACKET = 2**12
"""Bytes of one packet of what is typed, which is read at once. Paramiko sends as many whatever it is told."""
LONGEST_LINE = 8192
"""Characters of a line."""
LONGEST_SEQUENCE = 64
"""Bytes of a control sequence; what is longer is none."""
MOST_KEYS_AHEAD = 16 * LONGEST_LINE
"""Keys that may be typed while a line runs."""
MOST_HISTORY_LINES = 1000
"""Lines of a user's history; the file has up to twice as many before it is written anew."""

# What is shown ---------------------------------------------------------------------------------------------------

MOST_UNREAD_OUTPUT = 2**23
"""Bytes that may wait for a terminal which does not read them; an answer takes half of them at most."""
LONGEST_ANSWER = 2**20
"""Characters of one answer that are shown."""
