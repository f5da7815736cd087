"""What the history of jobs is told, and who waits for it, in the transaction that it tells of."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from datamover.jobs import notifications
from datamover.jobs.work import Remark
from datamover.postgres.database import Cursor, Json
from datamover.postgres.named_queries import NamedQueries

_QUERIES = NamedQueries.load()
_ENDS = {"CANCELLED": "cancelled", "COMPLETED": "completed"}


JobEvent = tuple[int, int | None, Remark]
"""An event: its job, its file (None: it is of the job itself), and what to tell."""


class EventDetail(Enum):
    """How much is told of what is done."""

    FULL = "full"
    BARE = "bare"
    """Events without what they tell of, and no breakers."""
    NONE = "none"
    """No events, and nobody is notified."""


async def write_events(cursor: Cursor, events: Sequence[JobEvent], detail: EventDetail = EventDetail.FULL) -> None:
    """Write events of jobs and their files, in this order."""
    if detail is EventDetail.NONE or not events:
        return

    def details(one: Remark) -> dict[str, Any]:
        return dict(one.details) if detail is EventDetail.FULL else {}

    told = [{"job": job, "file": file, "kind": one.kind, "details": details(one)} for job, file, one in events]
    await cursor.post(_QUERIES["insert_events"], {"events": Json(told)})


async def notify(cursor: Cursor, word: str) -> None:
    """Have every process hear a word once this is committed."""
    await cursor.post(_QUERIES["notify"], {"news": word})


async def finish_jobs(cursor: Cursor, jobs: Sequence[int], detail: EventDetail = EventDetail.FULL) -> None:
    """End those of the jobs whose last file has ended, and tell of it. They must be locked."""
    query = _QUERIES["finish_jobs" if detail is not EventDetail.NONE else "finish_jobs.untold"]
    for row in await cursor.fetch(query, {"jobs": list(jobs)}) if jobs else ():
        remark = Remark(_ENDS.get(row["state"], "failed"), {"status": row["state"]})
        await write_events(cursor, [(row["id"], None, remark)], detail)
        await notify(cursor, notifications.ended(row["id"]))
