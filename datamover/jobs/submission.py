"""Submission: storing new jobs, those of several calls in one statement, within the limits of the queue."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from datamover.concurrency.batcher import Batch, bisect_batch
from datamover.concurrency.loops import OnRefusal
from datamover.errors import DataMoverError, QueueFull, RequestIdConflict
from datamover.jobs import rows
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.values import NewJob, State, Submitted
from datamover.postgres.database import Cursor, Database, Json, Parameters, Row
from datamover.postgres.named_queries import QUERIES
from datamover.text.quantities import count

SLICE = 500
"""Rows that are built between two turns of the reactor."""
FEW = 100
"""Jobs and files of a call, at most, for it to be stored together with other calls."""
TOGETHER = 64
"""Calls that one statement stores, at most."""
RECOUNT = 1.0
"""Seconds, at least, between two counts of the files that wait."""
COUNTING = 100
"""The pause after a count, as a multiple of the time that the count took."""
STALEST = 20.0
"""Seconds, at most, of that pause, so that clients are not refused for long after the queue has shrunk."""


_Fetch = Callable[[str, Parameters], Awaitable[list[Row]]]
"""Runs one statement, in a transaction or by itself."""


@dataclass(frozen=True, slots=True)
class _Call:
    """The jobs of one call; all of them are stored or none."""

    jobs: Sequence[NewJob]
    files: Sequence[Sequence[Mapping[str, Any]]]
    """The rows of each job's files."""

    @property
    def atomic(self) -> bool:
        """Whether one statement stores all or nothing of it: a ``request_id`` that exists skips only its own job."""
        return len(self.jobs) == 1 or all(job.request_id is None for job in self.jobs)


class Submissions:
    """Stores new jobs. Every method raises Unavailable while the database is away."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        clock: IReactorTime,
        limits: Callable[[], QueueLimits],
        refused: OnRefusal,
    ) -> None:
        """``limits`` returns the limits in force."""
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._limits = limits
        self._refused = refused
        self._counted: Counter[str] | None = None
        """The files that waited at the last count, by owner."""
        self._since: Counter[str] = Counter()
        """The files that were submitted since, by owner."""
        self._recount_at = 0.0
        self._batch: Batch[_Call, list[Submitted]] = Batch(self._store_many, TOGETHER)

    async def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store all of the jobs or none; completes when they are on disk.

        Raises RequestIdConflict if a ``request_id`` was used for another request, and QueueFull.
        """
        asked: dict[str, int] = {}
        for job in jobs:
            asked[job.owner] = asked.get(job.owner, 0) + len(job.files)
        for owner, more in asked.items():
            await self._check_queue(owner, more)
        files = [await self._columns(job) for job in jobs]
        call = _Call(jobs, files)
        if not call.atomic:
            return await self._store_in_transaction(call)
        if len(jobs) + sum(map(len, files)) <= FEW:
            return await self._batch.add(call)
        [answer] = await self._store([call])
        if isinstance(answer, Failure):
            answer.raiseException()
        return answer

    # Storing --------------------------------------------------------------------------------------------------

    async def _store_many(self, calls: Sequence[_Call]) -> Sequence[list[Submitted] | Failure]:
        """Store the jobs of many calls; what the database refuses of one call fails that call alone."""
        answers = await bisect_batch(self._store, calls)
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Failure) and not isinstance(answer.value, DataMoverError):
                owners = ", ".join(sorted({job.owner for job in call.jobs}))
                self._refused("submissions", f"the submission of {owners}", answer)
        return answers

    async def _store(self, calls: Sequence[_Call]) -> Sequence[list[Submitted] | Failure]:
        """Store the jobs of atomic calls in one statement."""
        made = await self._insert(self._database.fetch, calls)
        position, answers = 0, list[list[Submitted] | Failure]()
        for call in calls:
            try:
                answers.append(await self._answer(self._database.read, call, made, position))
            except Exception:  # Any error is this call's alone: all jobs are stored by now.
                answers.append(Failure())  # type: ignore[no-untyped-call]
            position += len(call.jobs)
        return answers

    async def _store_in_transaction(self, call: _Call) -> list[Submitted]:
        """Store the jobs of a call that is not atomic; a conflict rolls all of them back."""

        async def store(cursor: Cursor) -> list[Submitted]:
            return await self._answer(cursor.fetch, call, await self._insert(cursor.fetch, [call]), 0)

        return await self._database.transaction(store)

    async def _insert(self, fetch: _Fetch, calls: Sequence[_Call]) -> Mapping[int, int]:
        """Insert jobs; return the ids of those that were made, by their position among all jobs of the calls."""
        jobs = [job for call in calls for job in call.jobs]
        files = [columns for call in calls for columns in call.files]
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
        return {row["position"]: row["id"] for row in await fetch(QUERIES["insert_jobs"], parameters)}

    async def _answer(self, fetch: _Fetch, call: _Call, made: Mapping[int, int], first: int) -> list[Submitted]:
        """Return a call's answer; its jobs begin at position ``first``. Raises RequestIdConflict."""
        submitted: list[Submitted] = []
        for index, job in enumerate(call.jobs):
            id = made.get(first + index)
            if id is not None:
                submitted.append(Submitted(id, State.PENDING, created=True))
            else:
                where = f"requests[{index}]: " if len(call.jobs) > 1 else ""
                submitted.append(await self._find(fetch, job, where))
        return submitted

    async def _find(self, fetch: _Fetch, job: NewJob, where: str) -> Submitted:
        """Return the job that an earlier request with this ``request_id`` made. Raises RequestIdConflict."""
        found = await fetch(QUERIES["find_request"], {"owner": job.owner, "request_id": job.request_id})
        if not found or found[0]["fingerprint"] != job.fingerprint:
            raise RequestIdConflict(
                f"{where}request_id {job.request_id!r} was used for another request"
                + (f", job {found[0]['id']}" if found else "")
                + ": use a new one for a new request"
            )
        return Submitted(found[0]["id"], State(found[0]["state"]), created=False)

    async def _columns(self, job: NewJob) -> list[dict[str, Any]]:
        """Return the rows of a job's files; the reactor runs between two slices."""
        columns: list[dict[str, Any]] = []
        making = rows.file_parameters(job, self._cipher)
        while some := list(islice(making, SLICE)):
            columns += some
            if len(some) == SLICE:
                await deferLater(self._clock, 0)
        return columns

    # The limits of the queue ----------------------------------------------------------------------------------

    async def _check_queue(self, owner: str, more: int) -> None:
        """Count ``more`` files of an owner as waiting; raises QueueFull if that is too many."""
        if self._counted is None or self._clock.seconds() >= self._recount_at:
            self._counted = await self._count()
        limits = self._limits()
        total = self._counted.total() + self._since.total()
        own = self._counted[owner] + self._since[owner]
        for what, files, most in (
            ("[limits]", total, limits.queued),
            (f"[clients.{owner}]", own, limits.quota(owner).queued),
        ):
            if most is not None and files + more > most:
                wait = count(files, "file waits", "files wait")
                raise QueueFull(f"{wait} already, and {what} queued allows {most}: ask again later")
        self._since[owner] += more

    async def _count(self) -> Counter[str]:
        """Count the files that wait, by owner; other calls use the last count meanwhile."""
        began, before, self._recount_at = self._clock.seconds(), self._since.copy(), inf
        try:
            found = await self._database.read(QUERIES["read_queued"])
        finally:
            now = self._clock.seconds()
            self._recount_at = now + max(RECOUNT, min(COUNTING * (now - began), STALEST))
        self._since.subtract(before)
        return Counter({row["owner"]: int(row["files"]) for row in found})
