"""The columns of all tables. A column of one name holds the same in every table.

``bytes`` is what is done, ``size`` what there is; both and ``rate`` come in decimal units, times in UTC.
"""

from datamover.console import figures
from datamover.console.tables import Column
from datamover.jobs.values import State

RED, GREEN, YELLOW, BLUE, CYAN = 31, 32, 33, 34, 36
STATES = {
    State.PREPARING.value: CYAN,
    State.IN_PROGRESS.value: BLUE,
    State.COMPLETED.value: GREEN,
    State.PARTIAL.value: YELLOW,
    State.FAILED.value: RED,
    State.CANCELLED.value: YELLOW,
}
"""PENDING has none."""


def _outcome(value: str) -> int | None:
    return GREEN if value == "ok" else RED


JOB = Column("job", right=True)
FILE = Column("file", right=True)
FILES = Column("files", right=True)
"""Files in place, of all files."""
STATUS = Column("status", colour=STATES.get)
OWNER = Column("owner", flexible=True)
LABEL = Column("label", flexible=True)
STAGE = Column("stage", flexible=True)
PERCENT = Column("%", lambda pair: figures.percentage(*pair), right=True)
"""Of bytes done and size."""
BYTES = Column("bytes", figures.size, right=True)
SIZE = Column("size", lambda pair: figures.size(*pair), right=True)
"""Of a tuple, so that a size which is not known shows as such."""
RATE = Column("rate", figures.rate, right=True)
AGE = Column("age", figures.age, right=True)
AT = Column("at (UTC)", figures.at)
ATTEMPT = Column("attempt", right=True)
ERROR = Column("error", colour=lambda value: RED if value else None)
"""Its code."""
MESSAGE = Column("message", flexible=True)
NODE = Column("node", flexible=True)
SOURCE = Column("from", flexible=True, middle=True)
TARGET = Column("to", flexible=True, middle=True)
EVENT = Column("event", flexible=True)
DETAILS = Column("details", flexible=True)
DESTINATION = Column("destination", flexible=True)
PROTOCOL = Column("protocol")
ACTIVE = Column("active", right=True)
QUEUED = Column("queued", right=True)
STATE = Column("state", flexible=True, colour=lambda value: None if value == "open" else YELLOW)
"""Of a destination or a node."""
DESCRIPTION = Column("description", flexible=True)
LIMIT = Column("limit", figures.rate, right=True)
ROLES = Column("roles")
SEEN = Column("seen", lambda moment: f"{figures.age(moment)} ago", right=True)
STEP = Column("step")
SECONDS = Column("seconds", lambda value: f"{value:.3f}", right=True)
WHO = Column("who", flexible=True)
ORIGIN = Column("origin", flexible=True)
ACTION = Column("action", flexible=True)
SUBJECT = Column("of", flexible=True)
OUTCOME = Column("outcome", colour=_outcome)
