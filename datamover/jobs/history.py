"""What the history of jobs is told, and who waits for it, in the transaction that it tells of."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from datamover.jobs import notifications
from datamover.jobs.work import Remark
from datamover.postgres.database import Cursor, Json
from datamover.postgres.named_queries import Queries

_QUERIES = Queries.load()
_ENDS = {"CANCELLED": "cancelled", "COMPLETED": "completed"}


Told = tuple[int, int | None, Remark]
"""An event: its job, its file (None: it is of the job itself), and what to tell."""


class Telling(Enum):
    """How much is told of what is done."""

    ALL = "all"
    BARE = "bare"
    """Events without what they tell of, and no breakers."""
    NOTHING = "nothing"
    """No events, and nobody is notified."""


async def tell(cursor: Cursor, events: Sequence[Told], telling: Telling = Telling.ALL) -> None:
    """Write events of jobs and their files, in this order."""
    if telling is Telling.NOTHING or not events:
        return

    def details(one: Remark) -> dict[str, Any]:
        return dict(one.details) if telling is Telling.ALL else {}

    told = [{"job": job, "file": file, "kind": one.kind, "details": details(one)} for job, file, one in events]
    await cursor.post(_QUERIES["insert_events"], {"events": Json(told)})


async def notify(cursor: Cursor, word: str) -> None:
    """Have every process hear a word once this is committed."""
    await cursor.post(_QUERIES["notify"], {"news": word})


async def finish(cursor: Cursor, jobs: Sequence[int], telling: Telling = Telling.ALL) -> None:
    """End those of the jobs whose last file has ended, and tell of it. They must be locked."""
    query = _QUERIES["finish_jobs" if telling is not Telling.NOTHING else "finish_jobs.untold"]
    for row in await cursor.fetch(query, {"jobs": list(jobs)}) if jobs else ():
        remark = Remark(_ENDS.get(row["state"], "failed"), {"status": row["state"]})
        await tell(cursor, [(row["id"], None, remark)], telling)
        await notify(cursor, notifications.ended(row["id"]))
