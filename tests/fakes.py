"""In-memory stand-ins for the job store, the logins and the audit trail."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorTime

from datamover.audit.trail import AuditEntry, AuditEvent
from datamover.errors import InvalidState, RequestIdConflict, UnknownJob
from datamover.jobs.store import JobStore
from datamover.jobs.values import Event, FileRecord, JobRecord, Naming, NewJob, State, Submitted
from datamover.postgres.failures import database_away


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class MemoryJobStore(JobStore):
    """A job store without a database: jobs stay as they are until a test changes them."""

    clock: IReactorTime
    ready: bool = True
    ids: float = 0.0
    held: dict[str, str] = field(default_factory=dict)
    draining: bool = False
    jobs_asked: dict[int, NewJob] = field(default_factory=dict)
    _records: dict[int, JobRecord] = field(default_factory=dict)
    _files: dict[int, list[FileRecord]] = field(default_factory=dict)
    _events: list[Event] = field(default_factory=list)
    _waiting: list[Deferred[None]] = field(default_factory=list)

    # What a test does with it ---------------------------------------------------------------------------------

    def change(self, id: int, **changes: Any) -> None:
        """Change a job's record as an engine would."""
        self._records[id] = replace(self._records[id], **changes)
        self._wake()

    def change_file(self, id: int, index: int, **changes: Any) -> None:
        self._files[id][index] = replace(self._files[id][index], **changes)

    def tell(self, job: int, kind: str, details: Mapping[str, Any], file: int | None = None) -> None:
        """Append an event."""
        self._events.append(Event(len(self._events) + 1, now(), job, file, kind, details))
        self._wake()

    @property
    def waiters(self) -> int:
        """The number of calls that wait for a change."""
        return len(self._waiting)

    # What the interface calls ---------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        self._available()
        earlier = {(job.owner, job.request_id): id for id, job in self.jobs_asked.items() if job.request_id}
        answers: list[Submitted] = []
        fresh: list[tuple[int, NewJob]] = []
        for index, job in enumerate(jobs):
            found = earlier.get((job.owner, job.request_id)) if job.request_id else None
            if found is None:
                number = len(self.jobs_asked) + len(fresh) + 1
                fresh.append((number, job))
                answers.append(Submitted(number, State.PENDING, created=True))
            elif self.jobs_asked[found].fingerprint != job.fingerprint:
                where = f"requests[{index}]: " if len(jobs) > 1 else ""
                raise RequestIdConflict(f"{where}request_id {job.request_id!r} was used for another request")
            else:
                answers.append(Submitted(found, self._records[found].state, created=False))
        for number, job in fresh:
            self._keep(number, job)
        return answers

    async def job(self, id: int, owner: str | None = None) -> JobRecord:
        self._available()
        record = self._records.get(id)
        if record is None or owner not in (None, record.owner):
            raise UnknownJob(f"there is no job {id}")
        return record

    async def files(
        self,
        id: int,
        owner: str | None = None,
        *,
        state: State | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> list[FileRecord]:
        await self.job(id, owner)
        found = [file for file in self._files[id] if state in (None, file.state)]
        return found[offset : offset + limit]

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
        self._available()
        found = [
            record
            for id, record in sorted(self._records.items(), reverse=True)
            if owner in (None, record.owner)
            and state in (None, record.state)
            and label in (None, record.label)
            and (before is None or id < before)
            and (destination is None or any(file.destination == destination for file in self._files[id]))
        ]
        return found[:limit]

    async def wait(self, id: int, timeout: float, owner: str | None = None) -> JobRecord:  # noqa: ASYNC109
        ends = self.clock.seconds() + timeout
        while True:
            record = await self.job(id, owner)
            left = ends - self.clock.seconds()
            if record.state.terminal or left <= 0:
                return record
            await self._news(left)

    async def cancel(self, id: int, owner: str | None = None) -> JobRecord:
        record = await self.job(id, owner)
        if record.state is State.CANCELLED:
            return record
        if record.state.terminal:
            raise InvalidState(f"job {id} is {record.state.value} and can no longer be cancelled")
        self.change(id, state=State.CANCELLED, finished_at=now())
        self.tell(id, "cancelled", {})
        return await self.job(id, owner)

    async def retry(self, id: int, owner: str | None = None) -> JobRecord:
        record = await self.job(id, owner)
        if record.state not in (State.FAILED, State.PARTIAL):
            raise InvalidState(f"job {id} is {record.state.value}: nothing in it has failed")
        self.change(id, state=State.IN_PROGRESS, finished_at=None, files_failed=0)
        return await self.job(id, owner)

    async def renotify(self, id: int, owner: str | None = None) -> JobRecord:
        record = await self.job(id, owner)
        if not record.state.terminal or self.jobs_asked[id].notify is None:
            raise InvalidState(f"job {id}: nothing was told of its end")
        self.tell(id, "renotified", {"by": owner or "administrator"})
        return record

    async def pause(self, id: int, owner: str | None = None) -> JobRecord:
        return await self._mark_paused(id, owner, True)

    async def resume(self, id: int, owner: str | None = None) -> JobRecord:
        return await self._mark_paused(id, owner, False)

    async def _mark_paused(self, id: int, owner: str | None, paused: bool) -> JobRecord:
        record = await self.job(id, owner)
        if record.state.terminal:
            raise InvalidState(f"job {id} is {record.state.value} and can no longer be paused or resumed")
        self.change(id, paused=paused)
        return await self.job(id, owner)

    async def hold(self, destination: str, reason: str) -> None:
        self.held[destination] = reason

    async def release(self, destination: str) -> None:
        self.held.pop(destination, None)

    async def drain(self, node: str | None = None, *, draining: bool = True) -> None:
        self.draining = draining

    async def free(self) -> dict[str, int]:
        return {}

    async def endpoints(self) -> list[dict[str, Any]]:
        return [
            {"name": f"place {name}", "held": reason, "failures": 0, "closed_until": None, "error": None}
            for name, reason in self.held.items()
        ]

    async def events(
        self,
        owner: str | None = None,
        *,
        after: int = 0,
        job: int | None = None,
        limit: int = 100,
        timeout: float = 0.0,  # noqa: ASYNC109
    ) -> list[Event]:
        if job is not None:
            await self.job(job, owner)
        ends = self.clock.seconds() + timeout
        while True:
            self._available()
            found = [
                event
                for event in self._events
                if event.cursor > after and job in (None, event.job) and owner in (None, self._records[event.job].owner)
            ]
            left = ends - self.clock.seconds()
            if found or left <= 0:
                return found[:limit]
            await self._news(left)

    async def queue(self) -> list[dict[str, Any]]:
        self._available()
        names = sorted({file.destination for files in self._files.values() for file in files})
        return [{"destination": name, "pending": self._pending(name), "active": 0} for name in names]

    async def nodes(self) -> list[dict[str, Any]]:
        self._available()
        return [
            {"name": "here", "roles": ["api", "engine"], "heartbeat_at": now(), "active": 0, "draining": self.draining}
        ]

    async def rate(self) -> float:
        self._available()
        return sum(record.rate for record in self._records.values())

    async def ids_used(self) -> float:
        self._available()
        return self.ids

    # Inside ---------------------------------------------------------------------------------------------------

    def _available(self) -> None:
        if not self.ready:
            raise database_away()

    def _pending(self, destination: str) -> int:
        files = [file for files in self._files.values() for file in files]
        return sum(file.destination == destination and file.state is State.PENDING for file in files)

    def _keep(self, id: int, job: NewJob) -> None:
        self.jobs_asked[id] = job
        sizes = [file.size for file in job.files]
        self._records[id] = JobRecord(
            id=id,
            state=State.PENDING,
            owner=job.owner,
            label=job.label,
            method=job.method,
            archive=job.archive,
            paused=False,
            priority=job.priority,
            files_total=len(job.files),
            files_completed=0,
            files_failed=0,
            bytes_total=None if None in sizes else sum(size for size in sizes if size is not None),
            bytes_done=0,
            rate=0.0,
            stage=None,
            attempt=0,
            max_attempts=job.max_attempts,
            next_retry_at=None,
            waiting_for=None,
            error=None,
            first_error=None,
            submitted_at=now(),
            started_at=None,
            finished_at=None,
        )
        self._files[id] = [
            FileRecord(
                index=index,
                source=file.source.shown,
                destination=file.destination,
                path=file.path + ("/" if file.naming is Naming.INTO else ""),
                state=State.PENDING,
                size=file.size,
                bytes_done=0,
                rate=0.0,
                digest=None,
                attempt=0,
                next_retry_at=None,
                error=None,
                first_error=None,
                started_at=None,
                finished_at=None,
            )
            for index, file in enumerate(job.files)
        ]
        self.tell(id, "submitted", {"files": len(job.files)})

    async def _news(self, timeout: float) -> None:  # noqa: ASYNC109
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        call = self.clock.callLater(timeout, self._end, waiting)
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            with suppress(AlreadyCalled, AlreadyCancelled):
                call.cancel()

    def _end(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.callback(None)

    def _wake(self) -> None:
        for waiting in list(self._waiting):
            self._end(waiting)


@dataclass(frozen=True)
class PlainLogins:
    """Logins with plain passwords; remembers who logged in from where."""

    passwords: Mapping[str, str]
    seen: list[tuple[str, str]] = field(default_factory=list)

    async def check(self, username: str, password: str, address: str) -> str | None:
        self.seen.append((username, address))
        return username if self.passwords.get(username) == password else None


class MemoryTrail:
    """``datamover.audit.trail.AuditStore`` without a database."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.away = False

    @property
    def events(self) -> list[AuditEvent]:
        return [entry.event for entry in self.entries]

    async def write(self, entries: Sequence[tuple[datetime, AuditEvent]]) -> None:
        if self.away:
            raise database_away()
        for at, event in entries:
            self.entries.append(AuditEntry(len(self.entries) + 1, at, event))

    async def read(self, *, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        return [entry for entry in self.entries if entry.cursor > after][:limit]

    async def newest(self, limit: int, *, logins: bool = True) -> list[AuditEntry]:
        return self.entries[-limit:]
