"""What the door asks of the job room: submit, look, wait, cancel, retry.

The engine's half (claims, leases, outcomes) is ``datamover.jobs.queue``. Every method raises Unavailable while the
database is away; one that changes something has then changed nothing, unless the message says otherwise.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from datamover.errors import InvalidState, RequestIdConflict, UnknownJob
from datamover.jobs import listing, news, rows
from datamover.jobs.database import Cursor, Database, Json
from datamover.jobs.sql import Queries
from datamover.jobs.values import Event, FileRecord, JobRecord, NewJob, State, Submitted

MOST_IDS = 2**31 - 1
LEASE = 30.0
"""Seconds that an engine may be silent before others take its work."""
SLICE = 500
"""Rows that are made in one go."""
POLL = 1.0
"""Seconds after which a waiting call looks again, should no word have come."""


class JobStore:
    """The jobs, as clients and people see them; ``owner`` None is an administrator, who sees everyone's."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        heard: news.News,
        clock: IReactorTime,
        limits: Mapping[str, int],
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._news = heard
        self._clock = clock
        self._limits = limits
        self._queries = Queries.load()

    @property
    def ready(self) -> bool:
        return self._database.ready

    # Asking for work ------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store all of them or none; completes when they are on disk.

        Raises RequestIdConflict where a request_id was used for another request.
        """

        files = [await self._columns(job) for job in jobs]

        async def store(cursor: Cursor) -> list[Submitted]:
            submitted = [
                await self._submit(cursor, job, files[index], f"requests[{index}]: " if len(jobs) > 1 else "")
                for index, job in enumerate(jobs)
            ]
            if any(one.created for one in submitted):
                await cursor.execute(self._queries["notify"], {"news": news.WORK})
            return submitted

        return await self._database.transaction(store)

    async def _columns(self, job: NewJob) -> list[dict[str, Any]]:
        """Return the rows of a job's files; many are made a slice at a time, between other calls."""
        columns: list[dict[str, Any]] = []
        making = rows.file_parameters(job, self._cipher)
        while some := list(islice(making, SLICE)):
            columns += some
            if len(some) == SLICE:
                await deferLater(self._clock, 0)
        return columns

    async def _submit(self, cursor: Cursor, job: NewJob, files: Sequence[Any], where: str) -> Submitted:
        made = await cursor.fetch_one(self._queries["insert_job"], rows.job_parameters(job))
        if made is None:
            return await self._found(cursor, job, where)
        await cursor.execute(self._queries["insert_transfers"], {"job": made["id"], "files": Json(list(files))})
        event = {"job": made["id"], "file": None, "kind": "submitted", "details": Json({"files": len(files)})}
        await cursor.execute(self._queries["insert_event"], event)
        return Submitted(made["id"], State.PENDING, created=True)

    async def _found(self, cursor: Cursor, job: NewJob, where: str) -> Submitted:
        found = await cursor.fetch_one(
            self._queries["find_request"], {"owner": job.owner, "request_id": job.request_id}
        )
        if found is None or found["fingerprint"] != job.fingerprint:
            raise RequestIdConflict(
                f"{where}request_id {job.request_id!r} was used for another request"
                + (f", job {found['id']}" if found else "")
                + ": use a new one for a new request"
            )
        return Submitted(found["id"], State(found["state"]), created=False)

    # Looking --------------------------------------------------------------------------------------------------

    async def job(self, id: int, owner: str | None = None) -> JobRecord:  # noqa: A002 - what the interface calls it
        """Return one job; raises UnknownJob."""
        found = await self._database.fetch(*listing.query(ids=[id], owner=owner)) if 0 < id <= MOST_IDS else []
        if not found:
            raise UnknownJob(f"there is no job {id}")
        record = rows.job(found[0])
        if record.state.terminal or record.rate or record.stage:
            return record
        return replace(record, waiting_for=await self._waiting_for(id))

    async def files(
        self,
        id: int,  # noqa: A002
        owner: str | None = None,
        *,
        state: State | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> list[FileRecord]:
        """Return a job's files in the order of the request; raises UnknownJob."""
        await self.job(id, owner)
        parameters = {"job": id, "state": state.value if state else None, "offset": offset, "limit": limit}
        return [rows.file(row) for row in await self._database.fetch(self._queries["read_files"], parameters)]

    async def jobs(
        self,
        owner: str | None = None,
        *,
        state: State | None = None,
        label: str | None = None,
        destination: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Return jobs, newest first; ``before`` is the id that the page before ended with."""
        found = await self._database.fetch(
            *listing.query(owner=owner, state=state, label=label, destination=destination, before=before, limit=limit)
        )
        return [rows.job(row) for row in found]

    async def wait(self, id: int, timeout: float, owner: str | None = None) -> JobRecord:  # noqa: A002, ASYNC109
        """Return the job once it is terminal, or as it is after ``timeout`` seconds; raises UnknownJob.

        Cancelling ends the wait and leaves the job alone.
        """
        ends = self._clock.seconds() + timeout
        while True:
            record = await self.job(id, owner)
            left = ends - self._clock.seconds()
            if record.state.terminal or left <= 0:
                return record
            await self._word(min(left, POLL), {news.ended(id), ""})

    async def events(
        self,
        owner: str | None = None,
        *,
        after: int = 0,
        job: int | None = None,
        limit: int = 100,
        timeout: float = 0.0,  # noqa: ASYNC109
    ) -> list[Event]:
        """Return the history after a cursor; waits up to ``timeout`` seconds for the first. Raises UnknownJob."""
        if job is not None:
            await self.job(job, owner)
        parameters = {"owner": owner, "after": after, "job": job, "limit": limit}
        ends = self._clock.seconds() + timeout
        while True:
            found = await self._database.fetch(self._queries["read_events"], parameters)
            left = ends - self._clock.seconds()
            if found or left <= 0:
                return [rows.event(row) for row in found]
            await self._word(min(left, POLL), None)

    async def queue(self) -> list[dict[str, Any]]:
        """Return destination, pending, active and rate (bytes a second) of every destination with unfinished work."""
        return await self._database.fetch(self._queries["read_queue"])

    async def nodes(self) -> list[dict[str, Any]]:
        """Return name, roles, heartbeat_at and active of the processes that are alive."""
        return await self._database.fetch(self._queries["read_nodes"], {"lease": LEASE})

    async def active(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the transfers that an engine is working on."""
        found = await self._database.fetch(self._queries["read_active"], {"limit": limit})
        return [{**row, "source": rows.shown_source(row)} for row in found]

    async def rate(self) -> float:
        """Return the bytes a second of everything that moves."""
        return float((await self._database.fetch(self._queries["read_rate"]))[0]["rate"])

    async def ids_used(self) -> float:
        """Return the share of all job ids that were given."""
        return float((await self._database.fetch(self._queries["read_newest_id"]))[0]["id"]) / MOST_IDS

    # Changing one's mind --------------------------------------------------------------------------------------

    async def cancel(self, id: int, owner: str | None = None) -> JobRecord:  # noqa: A002
        """Cancel what has not ended; running transfers end soon after. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> None:
            await cursor.execute(self._queries["serialise_claims"])
            state = await self._locked(cursor, id, owner)
            if state is State.CANCELLED:
                return
            if state.terminal:
                raise InvalidState(f"job {id} is {state.value} and can no longer be cancelled")
            waiting = await cursor.fetch(self._queries["cancel_waiting"], {"job": id})
            await cursor.execute(self._queries["cancel_running"], {"job": id})
            await cursor.execute(self._queries["count_cancelled"], {"job": id, "files": len(waiting)})
            ended = await cursor.fetch(self._queries["finish_jobs"], {"jobs": [id]})
            for _ in ended:
                event = {"job": id, "file": None, "kind": "cancelled", "details": Json({})}
                await cursor.execute(self._queries["insert_event"], event)
            await cursor.execute(self._queries["notify"], {"news": news.ended(id) if ended else news.CANCEL})

        await self._database.transaction(do)
        return await self.job(id, owner)

    async def retry(self, id: int, owner: str | None = None) -> JobRecord:  # noqa: A002
        """Put what failed back in the queue; history stays. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> None:
            state = await self._locked(cursor, id, owner)
            if state not in (State.FAILED, State.PARTIAL):
                raise InvalidState(f"job {id} is {state.value}: only a job that is FAILED or PARTIAL can be retried")
            failed = await cursor.fetch(self._queries["retry_failed"], {"job": id})
            await cursor.execute(self._queries["reopen_job"], {"job": id, "files": len(failed)})
            details = Json({"by": "client", "files": len(failed)})
            event = {"job": id, "file": None, "kind": "retrying", "details": details}
            await cursor.execute(self._queries["insert_event"], event)
            await cursor.execute(self._queries["notify"], {"news": news.WORK})

        await self._database.transaction(do)
        return await self.job(id, owner)

    async def _locked(self, cursor: Cursor, job: int, owner: str | None) -> State:
        found = await cursor.fetch_one(self._queries["lock_job"], {"job": job}) if 0 < job <= MOST_IDS else None
        if found is None or owner not in (None, found["owner"]):
            raise UnknownJob(f"there is no job {job}")
        return State(found["state"])

    # Why nothing moves ----------------------------------------------------------------------------------------

    async def _waiting_for(self, job: int) -> str | None:
        found = await self._database.fetch(self._queries["read_waiting"], {"job": job, "lease": LEASE})
        if not found:
            return None
        return waiting_for(found[0], self._limits)

    async def _word(self, seconds: float, words: set[str] | None) -> None:
        """Wait for one of ``words`` (any, if None), ``seconds`` at most."""
        woken: Deferred[None] = Deferred()

        def hear(word: str) -> None:
            if not woken.called and (words is None or word in words):
                woken.callback(None)

        forget = self._news.hear(hear)
        later = self._clock.callLater(seconds, hear, "")
        try:
            await woken
        finally:
            forget()
            if later.active():
                later.cancel()


def waiting_for(row: rows.Row, limits: Mapping[str, int]) -> str:
    """Say why a transfer waits, from what ``read_waiting`` told; ``limits`` is max_active of every destination."""
    name = row["destination"]
    if name not in limits:
        return f"destination {name}: no longer in the configuration"
    if not row["engines"]:
        return "an engine: no process with the role 'engine' is running"
    if row["pausing"]:
        seconds = max(1, round(row["next_attempt_at"].timestamp() - time.time()))
        code = (row["error"] or {}).get("code", "an error")
        return f"the next attempt, in {seconds} s, after {code}"
    ahead = f", {row['ahead']} ahead" if row["ahead"] else ""
    if row["active"] >= limits[name]:
        return f"destination {name}: {row['active']} of {limits[name]} transfers active{ahead}"
    return f"an engine to take it up{ahead}"
