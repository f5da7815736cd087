"""The job store: what the interface does with jobs: submit, read, wait for, and change them.

What engines do with them (claims, leases, outcomes) is in ``datamover.jobs.queue``. Every method raises Unavailable
while the database is away; a change has then not been made, unless the message says that this is unknown.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from datamover.bounds.calls import LARGEST_JOB_ID
from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.jobs import listing, notifications, rows
from datamover.jobs.control import JobControl
from datamover.jobs.feed import Feed
from datamover.jobs.figures import MOST
from datamover.jobs.queue.explanation import COUNTED, waiting_for
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.submission import Submissions
from datamover.jobs.values import Event, FileRecord, JobRecord, NewJob, State, Submitted
from datamover.jobs.waiting import WaitingCalls
from datamover.postgres.database import Database, Row
from datamover.postgres.named_queries import QUERIES

LEASE = 30.0
"""Seconds without a heartbeat after which other engines take an engine's work."""


class JobStore(JobControl):
    """Jobs as clients see them; ``owner`` None is an administrator, who sees the jobs of all owners."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        subscriptions: notifications.Notifications,
        clock: IReactorTime,
        limits: Callable[[], QueueLimits],
        lease: float = LEASE,
        refused: OnRefusal = log_refusal,
    ) -> None:
        """``limits`` returns the limits in force."""
        super().__init__(database)
        self._clock = clock
        self._limits = limits
        self._lease = lease
        self._submissions = Submissions(database, cipher, clock, limits, refused)
        self._feed = Feed(database, "read_horizon", "read_events")
        self._waiting_calls = WaitingCalls(database, self._feed, subscriptions, clock)

    @property
    def ready(self) -> bool:
        """Whether the database is open."""
        return self._database.ready

    # Submitting -----------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[NewJob]) -> Coroutine[Any, Any, list[Submitted]]:
        """Store all of the jobs or none; completes when they are on disk. See ``Submissions.submit``."""
        return self._submissions.submit(jobs)

    # Reading --------------------------------------------------------------------------------------------------

    async def job(self, id: int, owner: str | None = None) -> JobRecord:
        """Return one job; raises UnknownJob."""
        row = await self._one(listing.STATUS, id, owner, counted=COUNTED, lease=self._lease)
        return rows.job(row, None if row["waiting"] is None else await self._waiting_for(row["waiting"], owner))

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
        await self._one(listing.JOB, id, owner)
        parameters = {"job": id, "state": state.value if state else None, "offset": offset, "limit": limit}
        return [rows.file(row) for row in await self._database.read(QUERIES["read_files"], parameters)]

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
        """Return jobs, newest first; ``before`` is the last id of the previous page."""
        found = await self._database.read(
            *listing.query(owner=owner, state=state, label=label, destination=destination, before=before, limit=limit)
        )
        return [rows.job(row) for row in found]

    async def wait(self, id: int, timeout: float, owner: str | None = None) -> JobRecord:  # noqa: ASYNC109
        """Return the job once it is terminal, or after ``timeout`` seconds as it is then; raises UnknownJob.

        Cancelling only stops the waiting.
        """
        ends = self._clock.seconds() + timeout
        with self._waiting_calls.for_end(id) as wait:
            record = await self._waiting_calls.read(owner, lambda: self.job(id, owner))
            while not record.state.terminal and (left := ends - self._clock.seconds()) > 0:
                await wait(left)
                record = await self._waiting_calls.read(owner, lambda: self.job(id, owner))
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
        """Return the events after a cursor; waits up to ``timeout`` seconds for the first one. Raises UnknownJob."""
        if job is not None:
            known = job
            await self._waiting_calls.read(owner, lambda: self._one(listing.JOB, known, owner))
        parameters = {"owner": owner, "after": after, "job": job, "limit": limit}
        ends = self._clock.seconds() + timeout
        with self._waiting_calls.for_event(owner, job) as wait:
            found, seen = await self._waiting_calls.read(owner, lambda: self._feed.read_on(parameters))
            while not found and (left := ends - self._clock.seconds()) > 0:
                await wait(seen, left)
                found, seen = await self._waiting_calls.read(owner, lambda: self._feed.read_on(parameters))
        return [rows.event(row) for row in found]

    async def queue(self) -> list[dict[str, Any]]:
        """Return destination, pending, active and rate (bytes a second) of every destination with unfinished work.

        ``pending`` counts at most ``figures.MOST`` groups that wait, and as many of paused jobs.
        """
        return await self._database.read(QUERIES["read_queue"], {"most": MOST})

    async def nodes(self) -> list[dict[str, Any]]:
        """Return name, roles, heartbeat_at, active and draining of the processes that are alive."""
        return await self._database.read(QUERIES["read_nodes"], {"lease": self._lease})

    async def endpoints(self) -> list[dict[str, Any]]:
        """Return name, held, failures, closed_until and error of endpoints that are held or whose breaker is open."""
        return await self._database.read(QUERIES["read_endpoints"])

    async def uploading(self, destination: str, targets: Sequence[str]) -> set[str]:
        """Return those of ``targets`` that unfinished transfers to a destination have, or have left something of."""
        parameters = {"destination": destination, "targets": list(targets)}
        return {row["target"] for row in await self._database.read(QUERIES["read_uploading"], parameters)}

    async def free(self) -> dict[str, int]:
        """Return the free bytes that each destination with ``keep_free`` reported last."""
        return {row["destination"]: row["free"] for row in await self._database.read(QUERIES["read_rooms"])}

    async def active(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the transfers that engines are working on."""
        found = await self._database.read(QUERIES["read_active"], {"limit": limit})
        return [{**row, "source": rows.shown_source(row)} for row in found]

    async def rate(self) -> float:
        """Return the sum of the rates of all running transfers, in bytes a second."""
        return float((await self._database.read(QUERIES["read_rate"]))[0]["rate"])

    async def ids_used(self) -> float:
        """Return the part of all possible job ids that was given out, from 0 to 1."""
        return float((await self._database.read(QUERIES["read_newest_id"]))[0]["id"]) / LARGEST_JOB_ID

    # Changing -------------------------------------------------------------------------------------------------

    async def cancel(self, id: int, owner: str | None = None) -> JobRecord:
        """Cancel a job and return it; see ``cancel_job``."""
        await self.cancel_job(id, owner)
        return await self.job(id, owner)

    async def pause(self, id: int, owner: str | None = None) -> JobRecord:
        """Pause a job and return it; see ``pause_job``."""
        await self.pause_job(id, owner)
        return await self.job(id, owner)

    async def resume(self, id: int, owner: str | None = None) -> JobRecord:
        """Resume a job and return it; see ``resume_job``."""
        await self.resume_job(id, owner)
        return await self.job(id, owner)

    async def retry(self, id: int, owner: str | None = None) -> JobRecord:
        """Retry a job's failed files and return the job; see ``retry_job``."""
        await self.retry_job(id, owner)
        return await self.job(id, owner)

    async def renotify(self, id: int, owner: str | None = None) -> JobRecord:
        """Send the notice of a job's end once more and return the job; see ``renotify_job``."""
        await self.renotify_job(id, owner)
        return await self.job(id, owner)

    async def _one(self, statement: str, id: int, owner: str | None, **parameters: Any) -> Row:
        """Return the row of one job; raises UnknownJob and ExpiredJob."""
        parameters |= {"job": id, "owner": owner}
        found = await self._database.read(statement, parameters) if 0 < id <= LARGEST_JOB_ID else []
        if not found:
            await self._refuse(self._database, id, owner)
        return found[0]

    async def _waiting_for(self, row: Row, asking: str | None) -> str:
        """Return why a job's next file waits, from a row of ``read_waiting``, for the owner who asks."""
        limits, owner, moved = self._limits(), row["owner"], 0
        if asking is not None and row["behind"] is not None and row["behind_owner"] != asking:
            row["behind"] = 0
        if limits.quota(owner).bytes_per_day is not None:
            moved = (await self._database.read(QUERIES["read_moved"], {"owners": [owner]}))[0]["bytes"]
        return waiting_for(row, limits, moved, administrator=asking is None)
