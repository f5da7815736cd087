"""What an error of a connection means: the database is away, it cannot do this now, or the statement itself failed.

Pure. The first two are errors of ours (Unavailable, NotNow) with a message for clients; the third stays psycopg2's.
"""

import psycopg2
from psycopg2.errors import DiskFull, LockNotAvailable, ReadOnlySqlTransaction

from datamover.errors import DatabaseAway, NotNow, Unavailable

AWAY = "the database is away: try again; nothing was stored"
LOCKED = "others work on what this would change: try again; nothing was stored"
FULL = "the disk of the database is full: nothing was stored; try again once its operator has made room"
BUSY = "the database is too busy: try again; nothing was stored"
SLOW = "the database took too long to answer: try again; nothing was stored"
UNCERTAIN = (
    "the database went away while storing this, so it may or may not be stored: look, or ask again with the same "
    "request_id"
)
ONLY_READS = (
    "it only reads: it is a standby, or default_transaction_read_only is set for the role, the database or the server"
)

_SESSION_ENDS = ("57P", "08", "25P03", "25P04")
"""SQLSTATEs of a session that ends, whatever it was doing (PostgreSQL's documentation, appendix A)."""
_LIMIT_EXCEEDED = "54"
"""SQLSTATEs of program limits: psycopg2 calls them operational errors, but they are the statement's own fault."""


def meaning(error: Exception, *, closed: bool, decisive: bool) -> Unavailable | None:
    """Return what an error says of the database; None if the statement itself failed.

    ``closed`` tells that the connection is closed, ``decisive`` that the statement may have been stored all the same.
    """
    if closed or _ends_session(error):
        return Unavailable(UNCERTAIN) if decisive else database_away(one_line(error))
    if isinstance(error, ReadOnlySqlTransaction):
        return NotNow(AWAY, full=f"{AWAY} ({ONLY_READS})")
    if isinstance(error, DiskFull):
        return NotNow(FULL)
    if isinstance(error, LockNotAvailable):
        return NotNow(LOCKED)
    temporary = isinstance(error, psycopg2.OperationalError) and not str(error.pgcode).startswith(_LIMIT_EXCEEDED)
    return NotNow(AWAY, full=f"{AWAY} ({one_line(error)})") if temporary else None


def database_away(reason: str | None = None) -> DatabaseAway:
    """Return the error that says that the database is away; ``reason`` is for administrators and the log."""
    return DatabaseAway(AWAY, full=reason and f"{AWAY} ({reason})")


def one_line(error: BaseException) -> str:
    """Return the text of an error, which libpq spreads over several lines, as one line."""
    return " ".join(str(error).split())


def _ends_session(error: Exception) -> bool:
    """Return whether the connection ended before the server answered."""
    code = getattr(error, "pgcode", None)
    if code is None:  # Not the server's: libpq's, unless psycopg2 itself refused the statement.
        return not isinstance(error, psycopg2.ProgrammingError)
    return bool(code.startswith(_SESSION_ENDS))
