"""Fixed limits of requests, answers and messages. They are checked before any work that grows with the input.

A limit that an operator may want to change is a key of ``[limits]`` instead: what exceeds one of these is a mistake or
an attack. Lengths of text are in characters unless a comment says otherwise.
"""

# A body ----------------------------------------------------------------------------------------------------------

DEEPEST = 32
"""Levels of nested arrays and structs."""
MOST_ELEMENTS = 4_000_000
"""XML elements of a call that names files: 100,000 files of some thirty elements each."""
FEW_ELEMENTS = 2_000
"""XML elements of any other call."""
DENSEST = 5_000
"""XML elements that begin in 64 KiB of a body. Files, requests and calls have fewer than 4,096."""
MOST_ODD = 1_250
"""Comments, CDATA sections, and tags with attributes, prefixes or white space, in 64 KiB of a body."""
ODD_TAG = 3
"""How many comments such a tag counts for; it costs as much."""
FREE_NESTING = 2_500
"""Arrays and structs that hold others, or nothing, of any body. As many calls as a multicall may have are 2,000."""
MOST_NESTING = 500
"""How many more there may be for each 64 KiB. Files and requests, however short, have some 450."""
MOST_MEMBERS = 100
"""Members of a struct: no method takes as many keys."""
LONGEST_NAME = 256
"""The name of a method, or a struct's key."""
LONGEST_VALUE = 256 * 1024
"""Any text. A text with a limit of its own has a lower one."""

# What is stored and answered -------------------------------------------------------------------------------------

LONGEST_PARAMETER = 1000
"""A parameter without a limit of its own: a filter, the name of a destination or of a process."""
LONGEST_REQUEST_ID = 200
LONGEST_LABEL = 200
LONGEST_REASON = 500
"""Why a destination is held."""
LONGEST_CHECKSUM = 200
LONGEST_LSID = 1000
LONGEST_SUBJECT = 500
"""The subject of an event of the audit trail."""
LONGEST_URL = 64 * 1024
"""The largest value of ``[limits] url``."""
LEAST_ANSWER = 2**20
"""The smallest value of ``[limits] answer_size``, in bytes."""
LONGEST_MESSAGE = 2000
"""The message of an error."""
QUOTED = 100
"""A value in a message."""
QUOTED_URL = 300
"""A URL in a message."""

LARGEST_SUBMITTED = 300
"""Bytes of one job in the answer of a call that makes jobs."""
LARGEST_CHANGED = 64 * 1024
"""Bytes of the answer of a call that changes one job."""

# How many --------------------------------------------------------------------------------------------------------

MOST_CALLS = 1000
"""Calls of one multicall."""
MOST_SOURCES = 1000
"""Sources of one ``move``. No method takes an array with more values than that, unless they are structs."""
MOST_CHECKED = 1000
"""Files of one call of jobs.check."""
DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
"""Jobs, files or events of a page."""
LONGEST_WAIT = 60.0
"""Seconds that a call may wait."""
DEFAULT_WAIT = 30.0
"""Seconds that ``jobs.wait`` waits if the call does not say."""

# What servers send -----------------------------------------------------------------------------------------------

LONGEST_SLICE = 0.004
"""Seconds of work on what a server sent that are done in one turn of the reactor; a step that was begun is finished."""
MOST_STEPS = 16
"""Steps that are done in one turn."""
PIECE = 4096
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
LONGEST_TEXT = 64 * 1024
"""Characters of the text of one XML element, and bytes of one line of a listing."""
LONGEST_TAG = 256 * 1024
"""Bytes within which a tag, a comment or the like must end."""
LONGEST_ENTRY = 64 * 1024
"""Characters of one entry of a list in JSON."""
MOST_ENTRIES = 100_000
"""Entries of a list in JSON or XML."""
MOST_LINES = 1_000_000
"""Lines of a listing."""
LINES_AT_ONCE = 8
"""Lines of a listing that one step parses."""
LARGEST_OUTCOME = 512 * 1024
"""Bytes of any other JSON, which is parsed at once."""
MOST_CONTAINERS = 20_000
"""Lists and objects in it."""
MOST_NAMES = 5000
"""Names in one answer of an SFTP server, which has 256 KiB at most; OpenSSH sends 100."""


def cut(text: str, longest: int = QUOTED) -> str:
    """Return text; one longer than ``longest`` is shortened to that length, an ellipsis included."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def short_source(source: str) -> str:
    """Return a source, shortened to the length that messages allow."""
    return cut(source, QUOTED_URL)


def quoted(text: str) -> str:
    """Return text in quotation marks with control characters escaped, shortened to ``QUOTED``.

    The text is cut before it is quoted, so that the cost does not grow with its length.
    """
    return cut(repr(text[:QUOTED]))
