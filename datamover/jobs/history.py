"""Writing the history of jobs, and notifying processes, within the transaction that makes the change."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from datamover.jobs import notifications
from datamover.jobs.work import Remark
from datamover.postgres.database import Cursor, Json
from datamover.postgres.named_queries import QUERIES

_ENDS = {"CANCELLED": "cancelled", "COMPLETED": "completed"}


JobEvent = tuple[int, int | None, Remark]
"""An event to be written: its job, its file (None: it is about the job itself), and its kind and details."""


class EventDetail(Enum):
    """How much is written about a change; less where the database refuses more."""

    FULL = "full"
    """Events with their details, and breakers."""
    BARE = "bare"
    """Events without details, and no breakers."""
    NONE = "none"
    """No events, no breakers, and no notices."""


async def write_events(cursor: Cursor, events: Sequence[JobEvent], detail: EventDetail = EventDetail.FULL) -> None:
    """Queue a statement that writes events, in this order."""
    if detail is EventDetail.NONE or not events:
        return

    def details(one: Remark) -> dict[str, Any]:
        return dict(one.details) if detail is EventDetail.FULL else {}

    told = [{"job": job, "file": file, "kind": one.kind, "details": details(one)} for job, file, one in events]
    await cursor.post(QUERIES["insert_events"], {"events": Json(told)})


async def notify(cursor: Cursor, word: str) -> None:
    """Queue a statement that sends ``word`` to every process when the transaction commits (``notifications``)."""
    await cursor.post(QUERIES["notify"], {"news": word})


async def finish_jobs(cursor: Cursor, jobs: Sequence[int], detail: EventDetail = EventDetail.FULL) -> None:
    """End the jobs whose last file has ended, and write their events. The jobs must be locked."""
    query = QUERIES["finish_jobs" if detail is not EventDetail.NONE else "finish_jobs.untold"]
    for row in await cursor.fetch(query, {"jobs": list(jobs)}) if jobs else ():
        remark = Remark(_ENDS.get(row["state"], "failed"), {"status": row["state"]})
        await write_events(cursor, [(row["id"], None, remark)], detail)
        await notify(cursor, notifications.ended(row["id"]))
