"""What the interface asks of jobs: submit, look, wait, cancel, retry.

The engine's half (claims, leases, outcomes) is ``datamover.jobs.queue``. Every method raises Unavailable while the
database is away; one that changes something has then changed nothing, unless the message says otherwise.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from datamover.concurrency.batcher import Batch, bisect_batch
from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import DataMoverError, QueueFull, RequestIdConflict
from datamover.jobs import listing, notifications, rows
from datamover.jobs.control import MOST_IDS, JobControl
from datamover.jobs.feed import Feed
from datamover.jobs.queue.limits import COUNTED, QueueLimits, waiting_for
from datamover.jobs.values import Event, FileRecord, JobRecord, NewJob, State, Submitted
from datamover.jobs.waiting import WaitingCalls
from datamover.postgres.database import Cursor, Database, Json, Parameters, Row

LEASE = 30.0
"""Seconds that an engine may be silent before others take its work."""
SLICE = 500
"""Rows that are made in one go."""
FEW = 100
"""Jobs and files that one call may bring to be stored together with others' calls."""
TOGETHER = 64
"""Calls that are stored together, at most."""
RECOUNT = 1.0
"""Seconds at least from one count of what waits to the next."""
COUNTING = 100
"""Times as long as it took to count what waits, until it is counted again …"""
STALEST = 20.0
"""… but no more than so many seconds: whoever was refused for a full queue may come again when it is not."""

_Fetch = Callable[[str, Parameters], Awaitable[list[Row]]]
"""Runs one statement, within a transaction or by itself."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one call asks for: all of it or nothing."""

    jobs: Sequence[NewJob]
    files: Sequence[Sequence[Mapping[str, Any]]]
    """Of each job, as rows."""

    @property
    def at_once(self) -> bool:
        """Whether one statement stores all or nothing of it: a request_id that is there keeps its job alone back."""
        return len(self.jobs) == 1 or all(job.request_id is None for job in self.jobs)


class JobStore(JobControl):
    """The jobs, as clients and people see them; ``owner`` None is an administrator, who sees everyone's."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        heard: notifications.Notifications,
        clock: IReactorTime,
        bounds: Callable[[], QueueLimits],
        lease: float = LEASE,
        refused: OnRefusal = log_refusal,
    ) -> None:
        """``bounds`` tells those that hold now."""
        super().__init__(database)
        self._cipher = cipher
        self._clock = clock
        self._bounds = bounds
        self._lease = lease
        self._counted: Counter[str] | None = None
        """Files that wait, by their owner, at the last count; and since then."""
        self._recount = 0.0
        self._since: Counter[str] = Counter()
        self._refused = refused
        self._asking: Batch[_Asked, list[Submitted]] = Batch(self._store_many, TOGETHER)
        self._feed = Feed(database, "read_horizon", "read_events")
        self._watch = WaitingCalls(database, self._feed, heard, clock)

    @property
    def ready(self) -> bool:
        return self._database.ready

    # Asking for work ------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store all of them or none; completes when they are on disk.

        Raises RequestIdConflict where a request_id was used for another request, and QueueFull.
        """
        for owner in {job.owner for job in jobs}:
            await self._check_queue(owner, sum(len(job.files) for job in jobs if job.owner == owner))
        files = [await self._columns(job) for job in jobs]
        asked = _Asked(jobs, files)
        if not asked.at_once:
            return await self._store_in_steps(asked)
        if len(jobs) + sum(map(len, files)) <= FEW:
            return await self._asking.add(asked)
        [answer] = await self._store([asked])
        if isinstance(answer, Failure):
            answer.raiseException()
        return answer

    async def _store_many(self, asked: Sequence[_Asked]) -> Sequence[list[Submitted] | Failure]:
        """Store what many clients ask for; what the database refuses of one is told that one."""
        answers = await bisect_batch(self._store, asked)
        for one, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Failure) and not isinstance(answer.value, DataMoverError):
                owners = ", ".join(sorted({job.owner for job in one.jobs}))
                self._refused("submissions", f"what {owners} asked for", answer)
        return answers

    async def _store(self, asked: Sequence[_Asked]) -> Sequence[list[Submitted] | Failure]:
        """Store what many clients ask for in one statement, each of whom it stores all or nothing for."""
        made = await self._insert(self._database.fetch, asked)
        position, answers = 0, list[list[Submitted] | Failure]()
        for one in asked:
            try:
                answers.append(await self._submitted(self._database.read, one, made, position))
            except Exception:  # Whatever it is: all that was asked for is stored.
                answers.append(Failure())  # type: ignore[no-untyped-call]
            position += len(one.jobs)
        return answers

    async def _store_in_steps(self, asked: _Asked) -> list[Submitted]:
        """Store what one client asks for, where it shows only then whether all of it can be."""

        async def store(cursor: Cursor) -> list[Submitted]:
            return await self._submitted(cursor.fetch, asked, await self._insert(cursor.fetch, [asked]), 0)

        return await self._database.transaction(store)

    async def _insert(self, fetch: _Fetch, asked: Sequence[_Asked]) -> Mapping[int, int]:
        """Return the ids of the jobs that were made, by their place among all that are asked for."""
        jobs = [job for one in asked for job in one.jobs]
        files = [columns for one in asked for columns in one.files]
        parameters = {
            "jobs": Json([rows.job_parameters(job) | {"position": place} for place, job in enumerate(jobs)]),
            "files": Json([{**file, "position": place} for place, some in enumerate(files) for file in some]),
            "notices": Json(
                [
                    rows.notice_parameters(job.notify, self._cipher) | {"position": place}
                    for place, job in enumerate(jobs)
                    if job.notify is not None
                ]
            ),
        }
        return {row["position"]: row["id"] for row in await fetch(self._queries["insert_jobs"], parameters)}

    async def _submitted(self, fetch: _Fetch, asked: _Asked, made: Mapping[int, int], first: int) -> list[Submitted]:
        """Return a call's answer, whose jobs are those from the ``first`` place on. Raises RequestIdConflict."""
        submitted: list[Submitted] = []
        for index, job in enumerate(asked.jobs):
            id = made.get(first + index)
            if id is not None:
                submitted.append(Submitted(id, State.PENDING, created=True))
            else:
                where = f"requests[{index}]: " if len(asked.jobs) > 1 else ""
                submitted.append(await self._found(fetch, job, where))
        return submitted

    async def _check_queue(self, owner: str, more: int) -> None:
        """Raise QueueFull where too many files wait already."""
        if self._counted is None or self._clock.seconds() >= self._recount:
            self._counted = await self._count()
        bounds = self._bounds()
        waiting = self._counted.total() + self._since.total(), self._counted[owner] + self._since[owner]
        for what, files, most in (
            ("[limits]", waiting[0], bounds.queued),
            (f"[clients.{owner}]", waiting[1], bounds.quota(owner).queued),
        ):
            if most is not None and files + more > most:
                raise QueueFull(f"{files} files wait already, and {what} queued allows {most}: ask again later")
        self._since[owner] += more

    async def _count(self) -> Counter[str]:
        """Count the files that wait: once a second, or as seldom as makes it a small part of the work.

        Meanwhile others go on with the count before.
        """
        began, before, self._recount = self._clock.seconds(), self._since.copy(), inf
        try:
            found = await self._database.read(self._queries["read_queued"])
        finally:
            now = self._clock.seconds()
            self._recount = now + max(RECOUNT, min(COUNTING * (now - began), STALEST))
        self._since.subtract(before)
        return Counter({row["owner"]: int(row["files"]) for row in found})

    async def _columns(self, job: NewJob) -> list[dict[str, Any]]:
        """Return the rows of a job's files; many are made a slice at a time, between other calls."""
        columns: list[dict[str, Any]] = []
        making = rows.file_parameters(job, self._cipher)
        while some := list(islice(making, SLICE)):
            columns += some
            if len(some) == SLICE:
                await deferLater(self._clock, 0)
        return columns

    async def _found(self, fetch: _Fetch, job: NewJob, where: str) -> Submitted:
        """Return the job that was made for a request_id before."""
        found = await fetch(self._queries["find_request"], {"owner": job.owner, "request_id": job.request_id})
        if not found or found[0]["fingerprint"] != job.fingerprint:
            raise RequestIdConflict(
                f"{where}request_id {job.request_id!r} was used for another request"
                + (f", job {found[0]['id']}" if found else "")
                + ": use a new one for a new request"
            )
        return Submitted(found[0]["id"], State(found[0]["state"]), created=False)

    # Looking --------------------------------------------------------------------------------------------------

    async def job(self, id: int, owner: str | None = None) -> JobRecord:
        """Return one job; raises UnknownJob."""
        found = await self._database.read(*listing.query(ids=[id], owner=owner)) if 0 < id <= MOST_IDS else []
        if not found:
            await self._refuse(self._database, id, owner)
        record = rows.job(found[0])
        if record.state.terminal or record.rate or record.stage:
            return record
        return replace(record, waiting_for=await self._waiting_for(id, owner))

    async def files(
        self,
        id: int,
        owner: str | None = None,
        *,
        state: State | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> list[FileRecord]:
        """Return a job's files in the order of the request; raises UnknownJob."""
        await self.job(id, owner)
        parameters = {"job": id, "state": state.value if state else None, "offset": offset, "limit": limit}
        return [rows.file(row) for row in await self._database.read(self._queries["read_files"], parameters)]

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
        found = await self._database.read(
            *listing.query(owner=owner, state=state, label=label, destination=destination, before=before, limit=limit)
        )
        return [rows.job(row) for row in found]

    async def wait(self, id: int, timeout: float, owner: str | None = None) -> JobRecord:  # noqa: ASYNC109
        """Return the job once it is terminal, or as it is after ``timeout`` seconds; raises UnknownJob.

        Cancelling ends the wait and leaves the job alone.
        """
        ends = self._clock.seconds() + timeout
        record = await self._watch.read(owner, lambda: self.job(id, owner))
        while not record.state.terminal and (left := ends - self._clock.seconds()) > 0:
            await self._watch.end(id, left)
            record = await self._watch.read(owner, lambda: self.job(id, owner))
        return record

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
        if timeout <= 0:
            return [rows.event(row) for row in await self._feed.read(parameters)]
        found, seen = await self._watch.read(owner, lambda: self._feed.read_on(parameters))
        while not found and (left := ends - self._clock.seconds()) > 0:
            await self._watch.event(owner, job, seen, left)
            found, seen = await self._watch.read(owner, lambda: self._feed.read_on(parameters))
        return [rows.event(row) for row in found]

    async def queue(self) -> list[dict[str, Any]]:
        """Return destination, pending, active and rate (bytes a second) of every destination with unfinished work."""
        return await self._database.read(self._queries["read_queue"])

    async def nodes(self) -> list[dict[str, Any]]:
        """Return name, roles, heartbeat_at, active and draining of the processes that are alive."""
        return await self._database.read(self._queries["read_nodes"], {"lease": self._lease})

    async def endpoints(self) -> list[dict[str, Any]]:
        """Return name, held, failures, closed_until and error of destinations and source hosts that are not open."""
        return await self._database.read(self._queries["read_endpoints"])

    async def active(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the transfers that an engine is working on."""
        found = await self._database.read(self._queries["read_active"], {"limit": limit})
        return [{**row, "source": rows.shown_source(row)} for row in found]

    async def rate(self) -> float:
        """Return the bytes a second of everything that moves."""
        return float((await self._database.read(self._queries["read_rate"]))[0]["rate"])

    async def ids_used(self) -> float:
        """Return the share of all job ids that were given."""
        return float((await self._database.read(self._queries["read_newest_id"]))[0]["id"]) / MOST_IDS

    # Changing one's mind --------------------------------------------------------------------------------------

    async def cancel(self, id: int, owner: str | None = None) -> JobRecord:
        """Cancel what has not ended; return the job as it is then. Raises UnknownJob and InvalidState."""
        await self.cancel_job(id, owner)
        return await self.job(id, owner)

    async def pause(self, id: int, owner: str | None = None) -> JobRecord:
        """Take a job out of the queue; return the job as it is then. Raises UnknownJob and InvalidState."""
        await self.pause_job(id, owner)
        return await self.job(id, owner)

    async def resume(self, id: int, owner: str | None = None) -> JobRecord:
        """Put a paused job back; return the job as it is then. Raises UnknownJob and InvalidState."""
        await self.resume_job(id, owner)
        return await self.job(id, owner)

    async def retry(self, id: int, owner: str | None = None) -> JobRecord:
        """Put what failed back in the queue; return the job as it is then. Raises UnknownJob and InvalidState."""
        await self.retry_job(id, owner)
        return await self.job(id, owner)

    async def renotify(self, id: int, owner: str | None = None) -> JobRecord:
        """Have the client told of a job's end once more; return the job. Raises UnknownJob and InvalidState."""
        await self.renotify_job(id, owner)
        return await self.job(id, owner)

    # Waiting --------------------------------------------------------------------------------------------------

    async def _waiting_for(self, job: int, asking: str | None) -> str | None:
        parameters = {"job": job, "lease": self._lease, "counted": COUNTED}
        found = await self._database.read(self._queries["read_waiting"], parameters)
        if not found:
            return None
        row, bounds, owner, moved = dict(found[0]), self._bounds(), found[0]["owner"], 0
        if asking is not None and row["behind"] is not None:
            own = await self._database.read(*listing.query(ids=[row["behind"]], owner=asking))
            row["behind"] = row["behind"] if own else 0
        if bounds.quota(owner).bytes_per_day is not None:
            moved = (await self._database.read(self._queries["read_moved"], {"owners": [owner]}))[0]["bytes"]
        return waiting_for(row, bounds, moved, administrator=asking is None)
