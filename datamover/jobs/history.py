"""What the history of jobs is told, and who waits for it, in the transaction that it tells of."""

from collections.abc import Sequence

from datamover.jobs import news
from datamover.jobs.database import Cursor, Json
from datamover.jobs.sql import Queries
from datamover.jobs.work import Remark

_QUERIES = Queries.load()
_ENDS = {"CANCELLED": "cancelled", "COMPLETED": "completed"}


async def tell(cursor: Cursor, events: Sequence[tuple[int, int | None, Remark]]) -> None:
    """Write events of jobs and their files, in this order: job, file (None: of the job itself), what to tell."""
    if events:
        told = [{"job": job, "file": file, "kind": one.kind, "details": dict(one.details)} for job, file, one in events]
        await cursor.post(_QUERIES["insert_events"], {"events": Json(told)})


async def notify(cursor: Cursor, word: str) -> None:
    """Have every process hear a word once this is committed."""
    await cursor.post(_QUERIES["notify"], {"news": word})


async def finish(cursor: Cursor, jobs: Sequence[int]) -> None:
    """End those of the jobs whose last file has ended, and tell of it. They must be locked."""
    for row in await cursor.fetch(_QUERIES["finish_jobs"], {"jobs": list(jobs)}) if jobs else ():
        remark = Remark(_ENDS.get(row["state"], "failed"), {"status": row["state"]})
        await tell(cursor, [(row["id"], None, remark)])
        await notify(cursor, news.ended(row["id"]))
