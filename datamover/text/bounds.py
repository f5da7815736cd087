"""How long and how many: what is said to the service, and what it says, is held to these before any work grows with it.

What an operator may want to change is a key of ``[limits]``; what breaks one of these is a mistake or an attack,
whoever sends it. Lengths of text are characters unless it is said otherwise.
"""

# A body ----------------------------------------------------------------------------------------------------------

DEEPEST = 32
"""Arrays and structs within each other."""
MOST_ELEMENTS = 4_000_000
"""Of a call that names files: each of a hundred thousand has some thirty."""
FEW_ELEMENTS = 2_000
"""Of any other call."""
MOST_MEMBERS = 100
"""Of a struct: no call knows as many keys."""
LONGEST_NAME = 256
"""A method's name, or a struct's key."""
LONGEST_VALUE = 256 * 1024
"""Any text: whatever has a bound of its own has a lower one."""

# What is stored and told -----------------------------------------------------------------------------------------

LONGEST_PARAMETER = 1000
"""A text that has no bound of its own: a filter, the name of a destination or a process."""
LONGEST_REQUEST_ID = 200
LONGEST_LABEL = 200
LONGEST_REASON = 500
"""Why a destination is held."""
LONGEST_CHECKSUM = 200
LONGEST_LSID = 1000
LONGEST_SUBJECT = 500
"""What a deed in the audit trail is of."""
LONGEST_URL = 64 * 1024
"""What ``[limits] url`` may be set to."""
LEAST_ANSWER = 2**20
"""Bytes: what ``[limits] answer_size`` may be set to."""
LONGEST_MESSAGE = 2000
"""What an error says, to whomever."""
QUOTED = 100
"""A value in a message."""
QUOTED_URL = 300
"""A URL in a message."""

LARGEST_SUBMITTED = 300
"""Bytes of what a call that makes a job answers, for each."""
LARGEST_CHANGED = 64 * 1024
"""Bytes of what a call answers that changes one job."""

# How many --------------------------------------------------------------------------------------------------------

MOST_CALLS = 1000
"""Of a multicall."""
MOST_CHECKED = 1000
"""Files that jobs.check looks at."""
DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
"""Jobs, files or events of a page."""
LONGEST_WAIT = 60.0
"""Seconds that a call may take to wait for news."""
DEFAULT_WAIT = 30.0
"""Seconds that ``jobs.wait`` waits where it is not told."""


def cut(text: str, longest: int = QUOTED) -> str:
    """Return text as it is, or so much of its beginning that it and an ellipsis are not longer than ``longest``."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def brief(source: str) -> str:
    """Return a source, as it may be shown, no longer than messages tell one."""
    return cut(source, QUOTED_URL)


def quoted(text: str, longest: int = QUOTED) -> str:
    """Return text in quotation marks, its control characters escaped; what is over ``longest`` is not even quoted."""
    return cut(repr(text[:longest]), longest)
