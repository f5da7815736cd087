"""Writing the outcomes of attempts: many in one statement, and one that the database refuses by itself.

An outcome changes rows and the sums of the job, and writes events, notices and breakers. If the database refuses that
of one outcome, it is written with less detail (``EventDetail``); if it refuses that too, the transfer ends as INTERNAL.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from datamover.errors import DataMoverError, InternalError, Unavailable
from datamover.jobs.history import EventDetail, JobEvent, finish_jobs, write_events
from datamover.jobs.queue.breaker import BASE, CAP, PATIENCE, judge
from datamover.jobs.upkeep.changes import JobChanges
from datamover.jobs.values import State
from datamover.jobs.work import Outcome, Remark, ended, error_column, fence, outcome_columns
from datamover.postgres.database import Cursor, Database, Json
from datamover.postgres.failures import one_line
from datamover.postgres.named_queries import QUERIES

log = Logger()


async def _accepted(what: str, write: Callable[[EventDetail], Awaitable[object]], *details: EventDetail) -> bool:
    """Write something with the first of these details that the database accepts; return whether it accepts one."""
    for detail in details:
        try:
            await write(detail)
        except (CancelledError, Unavailable):
            raise
        except Exception as error:
            reason = one_line(error)
            log.warn(
                "the database refuses {what} (event detail: {detail}): {error}",
                what=what,
                detail=detail.value,
                error=reason,
            )
        else:
            return True
    return False


class _RehearsedError(Exception):
    """Rolls back a transaction that was only a test."""


class Endings:
    """Writes the outcomes of one node's attempts."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        self._changes = JobChanges(database)

    async def settle(self, outcomes: Sequence[Outcome], detail: EventDetail = EventDetail.FULL) -> None:
        """Write the outcomes of attempts; those whose lease was lost are ignored."""

        async def do(cursor: Cursor) -> None:
            jobs = sorted({one.leader.job for one in outcomes})
            await cursor.post(QUERIES["lock_jobs"], {"jobs": jobs})
            held_by_us = fence(self._node, [one.leader for one in outcomes])
            ours = {row["id"]: row for row in await cursor.fetch(QUERIES["lock_held"], held_by_us)}
            held = [one for one in outcomes if one.leader.id in ours]
            if not held:
                return
            now = ours[held[0].leader.id]["now"]
            columns = Json([outcome_columns(one, now) for one in held])
            await cursor.post(QUERIES["settle"], {"outcomes": columns})
            waiting = {one.leader.id: one.room_wanted for one in held if one.room_wanted is not None}
            if waiting:
                wanted = {"transfers": list(waiting), "wanted": list(waiting.values())}
                await cursor.post(QUERIES["wait_for_room"], wanted)
            events: list[JobEvent] = []
            for one in held:
                end = () if one.leader.id in waiting else (ended(one, now, paused=ours[one.leader.id]["paused"]),)
                events += [(one.leader.job, one.leader.index, remark) for remark in (*one.remarks, *end)]
            await write_events(cursor, events, detail)
            stopped = {one.leader.job for one in held if one.state is State.FAILED and one.leader.stop_on_failure}
            for job in sorted(stopped):
                await self._changes.follow(cursor, job, detail)
            await finish_jobs(cursor, jobs, detail)
            if detail is EventDetail.FULL:
                await self._note_endpoints(cursor, [one for one in held if one.leader.id not in waiting])

        await self._database.transaction(do)

    async def settle_alone(self, outcome: Outcome) -> bool:
        """Write an outcome that the database has refused, with less detail or as INTERNAL.

        Returns False if the database refuses even that. Raises Unavailable.
        """
        leader = outcome.leader
        settle = partial(self.settle, [outcome])
        what = f"the end of transfer {leader.id} of job {leader.job}"
        if await _accepted(what, settle, EventDetail.BARE, EventDetail.NONE):
            return True
        return await self.refuse(leader.id, leader.lease, InternalError(), partial(settle, EventDetail.NONE))

    async def refuse(
        self, transfer: int, lease: int, error: DataMoverError, again: Callable[[], Awaitable[object]] | None = None
    ) -> bool:
        """End a transfer's group as FAILED with ``error``, by a statement that contains no data of the transfer.

        The group may wait or run, but must not have been claimed since it had this ``lease``. Returns False if the
        database refuses that too. ``again`` is the call that was refused: the end is first tested in a transaction that
        is rolled back, and if that is accepted ``again`` is tried once more, since the database may have refused
        everything a moment ago. Raises Unavailable.
        """

        async def end(detail: EventDetail, *, rehearsed: bool = False) -> None:
            async def do(cursor: Cursor) -> None:
                await self._refuse(cursor, transfer, lease, error, detail)
                if rehearsed:
                    raise _RehearsedError

            with suppress(_RehearsedError):
                await self._database.transaction(do)

        what = f"the end of transfer {transfer} as {error.code}"
        if again is not None:
            if not await _accepted(what, partial(end, rehearsed=True), EventDetail.NONE):
                return False
            if await _accepted(f"the change of transfer {transfer} again", lambda _: again(), EventDetail.NONE):
                return True
        return await _accepted(what, end, *EventDetail)

    async def _refuse(
        self, cursor: Cursor, transfer: int, lease: int, error: DataMoverError, detail: EventDetail
    ) -> None:
        found = await cursor.fetch_one(QUERIES["lock_job_of"], {"transfer": transfer})
        if found is None:
            return
        column = Json(error_column(error, attempt=found["attempt"], at=found["now"]))
        parameters = {"transfer": transfer, "lease": lease, "error": column}
        failed = await cursor.fetch(QUERIES["end_refused"], parameters)
        if not failed:
            return
        job, index = found["job"], found["index"]
        await write_events(cursor, [(job, index, Remark("failed", {"error": error.as_dict()}))], detail)
        if found["stop_on_failure"]:
            await self._changes.follow(cursor, job, detail)
        await finish_jobs(cursor, [job], detail)

    async def _note_endpoints(self, cursor: Cursor, held: Sequence[Outcome]) -> None:
        """Update the breakers of the endpoints where transfers failed, and of those where they succeeded."""
        broken, mended = judge(held)
        if broken:
            found = [{"side": side, "owner": owner, "error": error} for (side, owner), error in sorted(broken.items())]
            opening = {"patience": PATIENCE, "base": BASE, "cap": CAP}
            await cursor.post(QUERIES["note_endpoint_failures"], {"news": Json(found), **opening})
        if mended:
            sides, owners = zip(*sorted(mended), strict=True)
            await cursor.post(QUERIES["mend_endpoints"], {"sides": list(sides), "owners": list(owners)})
