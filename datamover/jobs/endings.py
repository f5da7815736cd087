"""How attempts end in the database: many together; one alone, where the database refuses it, by as little as it takes.

The end of an attempt is its rows, its job's sums, and what is told of it: events, notices, breakers. Where one of these
is refused, that is left out, and the rest written; where the outcome itself is, the transfer ends as INTERNAL.
"""

from collections.abc import Sequence
from dataclasses import asdict

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from datamover.errors import DataMoverError, InternalError, Unavailable
from datamover.jobs.breaker import Breaker, judge
from datamover.jobs.changes import Changes
from datamover.jobs.connection import one_line
from datamover.jobs.database import Cursor, Database, Json
from datamover.jobs.history import Telling, Told, finish, tell
from datamover.jobs.sql import Queries
from datamover.jobs.values import State
from datamover.jobs.work import Outcome, Remark, ended, error_column, outcome_columns

log = Logger()

_QUERIES = Queries.load()


class Endings:
    """Those that one node writes."""

    def __init__(self, database: Database, node: str, breaker: Breaker) -> None:
        self._database = database
        self._node = node
        self._breaker = asdict(breaker)
        self._changes = Changes(database)

    async def settle(self, outcomes: Sequence[Outcome], telling: Telling = Telling.ALL) -> None:
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
            events: list[Told] = [
                (one.leader.job, one.leader.index, remark)
                for one in held
                for remark in (*one.remarks, ended(one, now, paused=ours[one.leader.id]["paused"]))
            ]
            await tell(cursor, events, telling)
            stopped = {one.leader.job for one in held if one.state is State.FAILED and one.leader.stop_on_failure}
            for job in sorted(stopped):
                await self._changes.follow(cursor, job, telling)
            await finish(cursor, jobs, telling)
            if telling is Telling.ALL:
                await self._note_sides(cursor, held)

        await self._database.transaction(do)

    async def settle_alone(self, outcome: Outcome) -> bool:
        """Write one outcome that the database refuses: without what it tells of, or as INTERNAL. False: nor that.

        Raises Unavailable.
        """
        job = outcome.leader.job
        for telling in (Telling.BARE, Telling.NOTHING):
            try:
                await self.settle([outcome], telling)
            except (CancelledError, Unavailable):
                raise
            except Exception as error:
                log.warn(
                    "job {job}: an end cannot be written with {telling} told of it: {error}",
                    job=job,
                    telling=telling.value,
                    error=one_line(error),
                )
            else:
                return True
        return await self.refuse(outcome.leader.id, outcome.leader.lease, InternalError())

    async def refuse(self, transfer: int, lease: int, error: DataMoverError) -> bool:
        """End the group that a transfer leads as FAILED with ``error``, by a statement that holds nothing of its own.

        It may be waiting or running, as long as nobody has claimed it since it had this ``lease``. False: the database
        refuses that too. Raises Unavailable.
        """
        for telling in Telling:
            try:
                await self._database.transaction(lambda cursor: self._refuse(cursor, transfer, lease, error, telling))  # noqa: B023 - awaited at once
            except (CancelledError, Unavailable):
                raise
            except Exception as refusal:
                log.warn(
                    "transfer {transfer} cannot be ended as {code} with {telling} told of it: {error}",
                    transfer=transfer,
                    code=error.code,
                    telling=telling.value,
                    error=one_line(refusal),
                )
            else:
                return True
        return False

    async def _refuse(self, cursor: Cursor, transfer: int, lease: int, error: DataMoverError, telling: Telling) -> None:
        found = await cursor.fetch_one(_QUERIES["lock_job_of"], {"transfer": transfer})
        if found is None:
            return
        column = Json(error_column(error, attempt=found["attempt"], at=found["now"]))
        parameters = {"transfer": transfer, "lease": lease, "error": column}
        failed = await cursor.fetch(_QUERIES["end_refused"], parameters)
        if not failed:
            return
        job, index = found["job"], found["index"]
        await tell(cursor, [(job, index, Remark("failed", {"error": error.as_dict()}))], telling)
        if found["stop_on_failure"]:
            await self._changes.follow(cursor, job, telling)
        await finish(cursor, [job], telling)

    async def _note_sides(self, cursor: Cursor, held: Sequence[Outcome]) -> None:
        """Have the breakers know who failed for everyone, and where something went well."""
        broken, mended = judge(held)
        if broken:
            found = [{"name": name, "error": broken[name]} for name in sorted(broken)]
            await cursor.post(_QUERIES["note_sides"], {"news": Json(found), **self._breaker})
        if mended:
            await cursor.post(_QUERIES["mend_sides"], {"names": sorted(mended)})
