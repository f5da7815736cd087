"""Bounds of calls, of what they store, and of their answers."""

# A body ----------------------------------------------------------------------------------------------------------

BODY_SLICE = 64 * 1024
"""Bytes of a body that are parsed in one piece: a few milliseconds."""
LONGEST_TAG = 2 * BODY_SLICE
"""Bytes of a tag or a comment. The parser starts an unfinished one again in every slice."""
DEEPEST_NESTING = 32
"""Levels of nested arrays and structs."""
MOST_ELEMENTS = 4_000_000
"""XML elements of a call that names files: 100,000 files of some thirty elements each."""
FEW_ELEMENTS = 2_000
"""XML elements of any other call."""
DENSEST_ELEMENTS = 5_000
"""XML elements that begin in 64 KiB of a body. Files, requests and calls have fewer than 4,096."""
MOST_ODD_MARKUP = 1_250
"""Comments, CDATA sections, and tags with attributes, prefixes or white space, in 64 KiB of a body."""
ODD_TAG = 3
"""How many comments such a tag counts for; it costs as much."""
FREE_NESTING = 2_500
"""Arrays and structs that hold others, or nothing, of any body. As many calls as a multicall may have are 2,000."""
MOST_NESTING = 500
"""How many more there may be for each 64 KiB. Files and requests, however short, have some 450."""
MOST_MEMBERS = 100
"""Members of a struct: no method takes as many keys."""
LONGEST_KEY = 256
"""The name of a method, or a struct's key."""
LONGEST_VALUE = 256 * 1024
"""Any text. A text with a limit of its own has a lower one."""

SMALL_PARSED_BODY = 2**20
"""Bytes of a body that is always parsed at once. Larger ones wait for each other, so that memory is bounded."""
LARGE_BODIES_AT_ONCE = 2
"""Larger bodies that are parsed at once, of different callers."""
LARGEST_BODIES_HELD = 4
"""Bodies of the largest size, and answers, that fit in memory at once; one caller may fill half of that."""

# What is stored and answered -------------------------------------------------------------------------------------

LONGEST_PARAMETER = 1000
"""A parameter without a limit of its own: a filter, the name of a destination or of a process."""
LONGEST_REQUEST_ID = 200
"""A ``request_id``."""
LONGEST_LABEL = 200
"""A ``label``."""
LONGEST_REASON = 500
"""Why a destination is held."""
LONGEST_CHECKSUM = 200
"""A ``checksum``, with the name of its algorithm."""
LONGEST_LSID = 1000
"""An LSID that ``move`` names."""
LONGEST_SUBJECT = 500
"""The subject of an event of the audit trail."""
LONGEST_URL = 64 * 1024
"""The largest value of ``[limits] url``."""
LONGEST_PATH = 4096
"""Bytes of a whole path in UTF-8, as Linux has it."""
LONGEST_CURSOR = 18
"""Digits of a cursor: of as many, 64 bits hold every number."""
LARGEST_JOB_ID = 2**31 - 1
"""The number of the last job that the database can store."""
LARGEST_FILE = 2**53
"""The most bytes of a file, by a client's or a server's word: up to here the doubles in which clients get them are
exact."""
MOST_ATTEMPTS = 100
"""Attempts that a job may ask for, for each file."""
LONGEST_DEADLINE = 366 * 86_400
"""Seconds from its submission to a job's ``deadline``."""
LEAST_ANSWER = 2**20
"""The smallest value of ``[limits] answer_size``, in bytes."""
SMALL_ANSWER = 64 * 1024
"""Bytes of an answer that needs no room in memory that is shared."""
LONGEST_MESSAGE = 2000
"""The message of an error."""
LONGEST_QUOTED = 100
"""A value in a message."""
LONGEST_QUOTED_URL = 300
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
INSPECTIONS_AT_ONCE = 8
"""Inspections for one caller at the same time, over all its calls."""
DEFAULT_LIMIT = 100
"""Jobs, files or events of a page, if the call does not say how many."""
LARGEST_LIMIT = 1000
"""Jobs, files or events of a page, at most."""

# How long --------------------------------------------------------------------------------------------------------

LONGEST_WAIT = 60.0
"""Seconds that a call may wait."""
DEFAULT_WAIT = 30.0
"""Seconds that ``jobs.wait`` waits if the call does not say."""
WORK_AT_ONCE = 0.004
"""Seconds of a call's work that are done at once; longer work continues in turns."""
WAITING_POLL = 1.0
"""Seconds between two reads of the database for all calls that wait, without a notification."""
WAITING_POLL_SOON = 0.02
"""Seconds, at least, between two such reads, however many notifications come."""
WAITING_READS = 2
"""Woken calls that read at a time, of different owners."""
MOST_NEW_EVENTS = 10_000
"""New events between two such reads beyond which all calls are woken, without reading whose they are."""
