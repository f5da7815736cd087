"""Bounds of what others' servers may send, and of how long they are waited for."""

# Every server ----------------------------------------------------------------------------------------------------

LISTING_SECONDS = 600.0
"""Seconds for reading one directory's listing, until its last byte."""
LONGEST_PAUSE_WITHIN = 20.0
"""Seconds that a service may ask to wait within an attempt; for more, the attempt gives way to other transfers."""
LONGEST_PAUSE_BETWEEN = 86_400.0
"""Seconds, at most, that a server's Retry-After is honoured between two attempts."""
LONGEST_RETRY_AFTER = 366 * 86_400.0
"""The most seconds that are read of a Retry-After; what is longer is cut to this."""
IMPOSSIBLE_COUNT = 2**64
"""From here on a number of bytes is not a count: it is treated as malformed."""
LOOKUPS_AT_ONCE = 256
"""Look-ups of host names that run at a time, not counting those that were written off.

One client has fewer transfers, notices and inspections at once ([limits] per_owner), so that names of its that hang
leave threads for those of others.
"""
MOST_LOOKUPS = 512
"""Threads in all for these, including those of look-ups that were written off."""
LOOKUP_SECONDS = 5.0
"""Seconds after which a look-up is written off."""

# Heads of HTTP ---------------------------------------------------------------------------------------------------

LARGEST_HEAD = 2**20
"""Bytes before the body, informational answers (1xx) included; and bytes between two chunks' data."""
LONGEST_EMPTY_LINES = 4
"""Bytes of empty lines before a head that are ignored, as in browsers."""
MOST_HEAD_LINES = 5000
"""Lines of a head, as in curl, and of informational answers before it: each costs far more time than its bytes."""
LONGEST_HEAD_FIELD = 2**14
"""Bytes of all values of a name together. What is longer is left out, since it is read by regular expressions."""
LARGEST_TUNNEL_HEAD = 64 * 1024
"""Bytes of a proxy's answer to CONNECT."""
LONGEST_ETAG = 1024
"""Characters of an ETag that is stored with a transfer; a longer one counts as none."""
LONGEST_DISPOSITION = 8192
"""Bytes of a Content-Disposition that are read; a name has 255."""
MOST_REDIRECTS = 20
"""Redirects that are followed from one URL."""
MOST_S3_REDIRECTS = 3
"""Redirects that one request to an S3 service follows, at most."""

# Cookies ---------------------------------------------------------------------------------------------------------

MOST_COOKIES = 100
"""Cookies in a jar; beyond it, the oldest is dropped."""
MOST_COOKIES_READ = 1000
"""Cookies that are read of one answer, the last ones."""
LARGEST_COOKIE = 4096
"""Bytes of a cookie's name and value; a larger one is ignored."""
LARGEST_COOKIE_HEADER = 8192
"""Bytes of a Cookie header; cookies that do not fit are left out."""
LONGEST_COOKIE_LIFE = 10**9
"""Seconds for which a cookie is kept."""

# Bodies of HTTP --------------------------------------------------------------------------------------------------

MOST_CODINGS = 3
"""Codings that are undone of one body at most."""
MOST_BODY_PIECES = 4096
"""Pieces that a body buffers: tiny ones cost far more memory than their bytes."""
MOST_INFORMATIONAL = 100
"""Informational answers (1xx) before an answer: one that comes every 20 s while a service works takes half an hour."""
GZIP_MEMBERS_IN_TURN = 32
"""Members of gzip that are decompressed in one turn of the reactor: each costs as much as a thousand bytes."""
CHUNK_STEPS_IN_TURN_OF_ITS_OWN = 128
"""Steps of chunks in one read from which on the next one waits for a turn in which no other is done."""
CHUNK_STEPS_IN_READ = 512
"""Steps of chunks that one read of the socket may bring, about half a millisecond; see ``ChunkParser``."""
LONGEST_CHUNK_LINE = 80
"""Bytes of the line before a chunk that are read; the rest is ignored."""
IGNORED_BODY = 64 * 1024
"""Bytes of an unwanted body that are read to keep the connection; a longer one is dropped with it."""
IGNORED_BODY_SECONDS = 1.0
"""Seconds that an unwanted body may take."""
ANSWER_SECONDS = 1800.0
"""Seconds for an answer that is delivered: it is short, though a service may work on it for minutes meanwhile."""
LARGEST_ANSWER = 8 * 2**20
"""Bytes of an answer that is read whole."""
LARGEST_JSON = 2**20
"""Bytes of JSON that are parsed on the reactor's thread."""
LARGEST_REFUSAL = 64 * 1024
"""Bytes of an error's body that are read for its message."""
LARGEST_PAGE = 64 * 1024
"""Bytes of an error's page in which its words are looked for."""

# Documents and listings -------------------------------------------------------------------------------------------

DOCUMENT_SLICE_SECONDS = 0.004
"""Seconds of work on what a server sent that are done in one turn of the reactor; a step that was begun is finished."""
STEPS_IN_SLICE = 16
"""Steps that are done in one turn."""
DOCUMENT_PIECE = 4096
"""Bytes of a document, or characters, that one step reads."""
LARGEST_DOCUMENT = 64 * 2**20
"""Bytes of a document that is read as it arrives."""
MOST_NODES = 500_000
"""XML elements of a document that is read once it has arrived."""
MOST_NODES_ARRIVING = 2_000_000
"""XML elements of a document that is read as it arrives."""
MOST_MEMBERS_TOLD = 250_000
"""Files and directories in one document of WebDAV."""
MOST_NODES_OF_ERRORS = 1000
"""XML elements of an error."""
DEEPEST_DOCUMENT = 64
"""Levels of XML elements."""
LONGEST_DOCUMENT_TEXT = 64 * 1024
"""Characters of the text of one XML element, and bytes of one line of a listing."""
LONGEST_MARKUP = 256 * 1024
"""Bytes within which a tag, a comment or the like must end."""
LONGEST_ENTRY = 64 * 1024
"""Characters of one entry of a list in JSON."""
MOST_ENTRIES = 100_000
"""Entries of a list in JSON or XML."""
MOST_LISTING_LINES = 1_000_000
"""Lines of a listing."""
LISTING_LINES_IN_STEP = 8
"""Lines of a listing that one step parses."""
LARGEST_JSON_AT_ONCE = 512 * 1024
"""Bytes of any other JSON, which is parsed at once."""
MOST_JSON_CONTAINERS = 20_000
"""Lists and objects in it."""
MOST_SFTP_NAMES = 5000
"""Names in one answer of an SFTP server, which has 256 KiB at most; OpenSSH sends 100."""

# SFTP ------------------------------------------------------------------------------------------------------------

LARGEST_SSH_PACKET = 2**20
"""Bytes of the largest packet of SSH that is accepted."""
SSH_PACKETS_IN_TURN = 256
"""Packets taken in one turn of the reactor: those that carry files are large, and fewer are read at once."""
MOST_LOGIN_QUESTIONS = 5
"""Rounds of keyboard-interactive questions that are answered."""
LARGEST_SFTP_ANSWER = 2**18 + 2**10
"""Bytes of the largest answer that is accepted: as much as is read at once. OpenSSH's are as large at most."""
LONGEST_SFTP_LISTING = 1_000_000
"""Names of one directory that are listed."""

# FTP -------------------------------------------------------------------------------------------------------------

LONGEST_REPLY_LINE = 64 * 1024
"""Bytes of one line of a reply."""
LARGEST_REPLY = 2**20
"""Bytes of one reply, which may be a small listing."""
LONGEST_QUOTED_REPLY = 200
"""Characters of a server's words that messages quote."""
LARGEST_FTP_LISTING = 64 * 2**20
"""Bytes of one directory's listing."""
LONGEST_FTP_LISTING_LINE = 2048
"""Characters of a line of a listing: a name and a link's target. Parsing takes time with the square of them."""
MOST_DATA_PIECES = 4096
"""Pieces that a data connection buffers: tiny ones cost far more memory than their bytes."""
MOST_FTP_LINKS = 20
"""Symbolic links that one path may lead through (Linux follows 40)."""
