"""How attempts end in the database: many together; one alone, where the database refuses it, by as little as it takes.

The end of an attempt is its rows, its job's sums, and what is told of it: events, notices, breakers. Where one of these
is refused, that is left out, and the rest written; where the outcome itself is, the transfer ends as INTERNAL.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from datamover.errors import DataMoverError, InternalError, Unavailable
from datamover.jobs.history import EventDetail, JobEvent, finish_jobs, write_events
from datamover.jobs.queue.breaker import Breaker, judge
from datamover.jobs.upkeep.changes import JobChanges
from datamover.jobs.values import State
from datamover.jobs.work import Outcome, Remark, ended, error_column, outcome_columns
from datamover.postgres.database import Cursor, Database, Json
from datamover.postgres.failures import one_line
from datamover.postgres.named_queries import NamedQueries

log = Logger()

_QUERIES = NamedQueries.load()


async def _taken(what: str, write: Callable[[EventDetail], Awaitable[object]], *ways: EventDetail) -> bool:
    """Write something in the first of these ways that the database takes; tell whether it takes one."""
    for detail in ways:
        try:
            await write(detail)
        except (CancelledError, Unavailable):
            raise
        except Exception as error:
            reason = one_line(error)
            log.warn("{what}, with {told} told of it, is refused: {error}", what=what, told=detail.value, error=reason)
        else:
            return True
    return False


class _RehearsedError(Exception):
    """Undoes what was only to be tried."""


class Endings:
    """Those that one node writes."""

    def __init__(self, database: Database, node: str, breaker: Breaker) -> None:
        self._database = database
        self._node = node
        self._breaker = asdict(breaker)
        self._changes = JobChanges(database)

    async def settle(self, outcomes: Sequence[Outcome], detail: EventDetail = EventDetail.FULL) -> None:
        """Write how attempts ended; those whose lease was lost are passed over."""

        async def do(cursor: Cursor) -> None:
            jobs = sorted({one.leader.job for one in outcomes})
            await cursor.post(_QUERIES["lock_jobs"], {"jobs": jobs})
            fence = {
                "node": self._node,
                "transfers": [one.leader.id for one in outcomes],
                "leases": [one.leader.lease for one in outcomes],
            }
            ours = {row["id"]: row for row in await cursor.fetch(_QUERIES["lock_held"], fence)}
            held = [one for one in outcomes if one.leader.id in ours]
            if not held:
                return
            now = ours[held[0].leader.id]["now"]
            columns = Json([outcome_columns(one, now) for one in held])
            await cursor.post(_QUERIES["settle"], {"outcomes": columns})
            events: list[JobEvent] = [
                (one.leader.job, one.leader.index, remark)
                for one in held
                for remark in (*one.remarks, ended(one, now, paused=ours[one.leader.id]["paused"]))
            ]
            await write_events(cursor, events, detail)
            stopped = {one.leader.job for one in held if one.state is State.FAILED and one.leader.stop_on_failure}
            for job in sorted(stopped):
                await self._changes.follow(cursor, job, detail)
            await finish_jobs(cursor, jobs, detail)
            if detail is EventDetail.FULL:
                await self._note_endpoints(cursor, held)

        await self._database.transaction(do)

    async def settle_alone(self, outcome: Outcome) -> bool:
        """Write one outcome that the database refuses: without what it tells of, or as INTERNAL. False: nor that.

        Raises Unavailable.
        """
        leader = outcome.leader
        settle = partial(self.settle, [outcome])
        if await _taken(f"the end of transfer {leader.id}", settle, EventDetail.BARE, EventDetail.NONE):
            return True
        return await self.refuse(leader.id, leader.lease, InternalError(), partial(settle, EventDetail.NONE))

    async def refuse(
        self, transfer: int, lease: int, error: DataMoverError, again: Callable[[], Awaitable[object]] | None = None
    ) -> bool:
        """End the group that a transfer leads as FAILED with ``error``, by a statement that holds nothing of its own.

        It may be waiting or running, as long as nobody has claimed it since it had this ``lease``. False: the database
        refuses that too. ``again``: what was refused, which is tried once more when it is known that the end would be
        taken, for a database may have taken nothing at all a moment ago. Raises Unavailable.
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
            if not await _taken(what, partial(end, rehearsed=True), EventDetail.NONE):
                return False
            if await _taken(f"what was refused of transfer {transfer}", lambda _: again(), EventDetail.NONE):
                return True
        return await _taken(what, end, *EventDetail)

    async def _refuse(
        self, cursor: Cursor, transfer: int, lease: int, error: DataMoverError, detail: EventDetail
    ) -> None:
        found = await cursor.fetch_one(_QUERIES["lock_job_of"], {"transfer": transfer})
        if found is None:
            return
        column = Json(error_column(error, attempt=found["attempt"], at=found["now"]))
        parameters = {"transfer": transfer, "lease": lease, "error": column}
        failed = await cursor.fetch(_QUERIES["end_refused"], parameters)
        if not failed:
            return
        job, index = found["job"], found["index"]
        await write_events(cursor, [(job, index, Remark("failed", {"error": error.as_dict()}))], detail)
        if found["stop_on_failure"]:
            await self._changes.follow(cursor, job, detail)
        await finish_jobs(cursor, [job], detail)

    async def _note_endpoints(self, cursor: Cursor, held: Sequence[Outcome]) -> None:
        """Have the breakers know where whose transfers fail, and where something went well."""
        broken, mended = judge(held)
        if broken:
            found = [{"side": side, "owner": owner, "error": error} for (side, owner), error in sorted(broken.items())]
            await cursor.post(_QUERIES["note_endpoint_failures"], {"news": Json(found), **self._breaker})
        if mended:
            sides, owners = zip(*sorted(mended), strict=True)
            await cursor.post(_QUERIES["mend_endpoints"], {"sides": list(sides), "owners": list(owners)})
