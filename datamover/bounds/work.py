"""Bounds of the work that calls and jobs cause in a process: files that are made, notices, the audit trail."""

ARCHIVES_AT_ONCE = 4
"""Archives made at a time; more would not be faster on one disk."""
DATASETS_AT_ONCE = 4
"""Child processes that make datasets at a time, of which each takes a core; a thread waits for each."""
GROUP_FILES_AT_ONCE = 4
"""Files of one group that move concurrently."""

NOTICES_AT_ONCE = 16
"""Notices that are sent at a time."""
NOTICES_PER_HOST = 2
"""Of those, to one host and port."""
NOTICES_PER_OWNER = NOTICES_AT_ONCE // 2
"""Of those, for one client."""
NOTICE_SECONDS = 15.0
"""Seconds for connecting, sending and the whole answer: half of a claim's lease."""

REFUSALS_WINDOW = 60.0
"""Seconds of the window in which refused calls and logins are counted."""
REFUSALS_STORED = 20
"""Refusals of one action and origin that the audit trail stores in a window."""
REFUSALS_COUNTED_APART = 1000
"""Pairs of origin and action that are counted apart in a window; further ones are counted together."""
MOST_UNSTORED_EVENTS = 1000
"""Events of the audit trail that wait in memory for a database that is away; the oldest are dropped."""
