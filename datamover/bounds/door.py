"""Bounds of a connection to the interface: its requests until their calls are read, and the logins of clients."""

# How many connections --------------------------------------------------------------------------------------------

RESERVED_CONNECTIONS = 16
"""Connections beyond the limit: so many for this machine itself, and so many for answering 503 to others."""

# A request's head ------------------------------------------------------------------------------------------------

LONGEST_FIRST_LINE = 2 * 1024
"""Bytes of the request line: no path of the service is long, and each segment and parameter costs time."""
LARGEST_REQUEST_HEAD = 16 * 1024
"""Bytes of the request line and the headers together."""
MOST_HEADERS = 100
"""Headers of a request."""
LONGEST_CONTENT_LENGTH = 18
"""Digits of a Content-Length."""
LONGEST_CONTENT_TYPE = 200
"""Characters of a Content-Type: the time for parsing its parameters grows with the square of its length."""
LONGEST_XML_DECLARATION = 1024
"""Bytes at the beginning of a body in which its encoding is looked for."""

# A body ----------------------------------------------------------------------------------------------------------

SMALL_BODY = 64 * 1024
"""Bytes of a body that are kept before its login is checked. Each connection may hold so many."""
DRAINED_TIMES = 2
"""The connection is closed when a body exceeds this many times its limit."""
MOST_BYTES_DISCARDED = 2**20
"""Bytes that are read from a connection after a refusal."""

# Pieces of work --------------------------------------------------------------------------------------------------

TURN_SECONDS = 0.001
"""Seconds of work for all clients in one iteration of the reactor; a piece that was begun is finished."""
WORK_IN_TURN = 0.002
"""Seconds of one client's long work in one turn."""
HEAD_PIECE = 4 * 1024
"""Bytes that are parsed for a head in one turn; most calls fit in whole."""
BODY_PIECE = 64 * 1024
"""Bytes of a body that are read in one turn."""
CHUNK_STEPS_IN_TURN = 256
"""Chunk sizes, data and ends that are decoded in one turn: about half a millisecond."""
TLS_PIECE = 4 * 1024
"""Received bytes that are decrypted at once; one byte in a record takes 22."""
MOST_BYTES_AHEAD = 32 * 1024
"""Bytes of a connection that may wait for a turn; beyond them nothing more is received."""

# How long --------------------------------------------------------------------------------------------------------

IDLE_SECONDS = 60.0
"""Seconds between two requests."""
HEAD_SECONDS = 15.0
"""Seconds for the request line and headers; for the first request it includes the TLS handshake."""
BODY_SILENCE = 30.0
"""Seconds between two pieces of a body."""
BODY_WINDOW = 30.0
"""Seconds over which a body's rate is measured."""
SLOWEST_BODY = 10_000
"""The minimum rate in each window, in bytes a second."""
DISCARDED_BODY_SECONDS = 30.0
"""Seconds for a whole body that is thrown away because its sender has not logged in."""
LINGER_SECONDS = 2.0
"""Seconds of reading on after a refusal."""
CLOSED_LOOK_SECONDS = 2.0
"""Seconds between checks whether the client has closed a connection that is not being received from."""
CLOSED_CALL_SECONDS = 5.0
"""Seconds in which a call is answered whose client sends nothing more: most have gone, and some read the answer."""

# Logins ----------------------------------------------------------------------------------------------------------

LOGINS_AT_ONCE = 2
"""Passwords checked at once; at most one of them for one address."""
WAITING_LOGINS = 256
"""Waiting logins of all addresses."""
WAITING_LOGINS_OF_ONE = 16
"""Waiting logins of one address."""
FREE_LOGIN_FAILURES = 3
"""Failed logins without a pause: people mistype."""
FIRST_LOGIN_PAUSE = 0.25
"""Seconds that a login waits after further failures; each doubles them."""
LONGEST_LOGIN_PAUSE = 5.0
"""Seconds, at most, of that pause."""
LOGIN_FAILURES_FORGOTTEN = 900.0
"""Seconds after the last failure until the count starts again at zero."""
MOST_FAILURES_COUNTED = 8192
"""Names and addresses whose failures are counted; the oldest are dropped first."""
