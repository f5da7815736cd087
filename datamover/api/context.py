"""The caller of a method, and the context that every method gets.

The context holds the job store and the runtime that was in force when the call began.
"""

from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

from twisted.logger import Logger

from datamover.api.allowance import Allowance
from datamover.api.http.turns import Turns
from datamover.api.methods.table import Method
from datamover.api.xmlrpc import records
from datamover.audit.trail import AuditTrail
from datamover.bounds.calls import WORK_AT_ONCE
from datamover.concurrency.fair_share import FairPlace, FairRoom
from datamover.config.schema import Config
from datamover.errors import NotPermitted, RequestTooLarge, SourceNotAllowed, Unavailable
from datamover.jobs.store import JobStore
from datamover.jobs.values import JobRecord, NewJob, Submitted
from datamover.protocols.http import HttpClient
from datamover.registry.destinations import Registry
from datamover.requests.datasets import Datasets
from datamover.requests.files import Rules
from datamover.runtime.reload import Reloaded
from datamover.runtime.request_rules import request_rules
from datamover.runtime.snapshot import Runtime
from datamover.text.quantities import count
from datamover.web.policy import Prefix
from datamover.web.url import WebUrl

log = Logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """A client with its permissions, as one call comes from it."""

    name: str
    administrator: bool
    destinations: Collection[str] | None = None
    """The destinations that it may use; None: all."""
    methods: Collection[str] | None = None
    """The methods that it may call; None: all."""
    sources: tuple[Prefix, ...] | None = None
    """The URLs that it may name, of those that ``[sources]`` allows; None: all of them."""
    datasets: Collection[str] | None = None
    """The schemes of datasets that it may name; None: all."""
    origin: str = ""
    """The address that the call came from."""

    @property
    def key(self) -> str:
        """The key of this caller's share; it differs from the address that stands for clients without a login."""
        return f"client {self.name}"

    @property
    def owner(self) -> str | None:
        """The owner whose jobs this caller sees; None: every owner."""
        return None if self.administrator else self.name

    def may_use(self, destination: str) -> bool:
        return self.destinations is None or destination in self.destinations

    def check_destination(self, destination: str) -> None:
        """Raise NotPermitted if this caller may not use a destination."""
        if not self.may_use(destination):
            raise NotPermitted(f"client {self.name!r} may not use destination {destination!r}")

    def check_method(self, name: str) -> None:
        """Raise NotPermitted if this caller may not call a method."""
        if self.methods is not None and name not in self.methods:
            raise NotPermitted(f"client {self.name!r} may not call {name}")

    def check_source(self, url: WebUrl) -> None:
        """Raise SourceNotAllowed if this caller's own ``sources`` do not allow a URL."""
        if self.sources is not None and not any(rule.matches(url) for rule in self.sources):
            refusal = f"{url.told} is not an allowed source for client {self.name!r}: no rule in its sources names it"
            raise SourceNotAllowed(
                f"{refusal}; ask the administrator", full=f"{refusal}: add one to [clients.{self.name}] sources"
            )


LOCAL = Caller("local", administrator=True)
"""The caller if no clients are configured; only loopback and Unix listeners may start then."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What every method gets."""

    runtime: Runtime
    """The runtime that was in force when the call began."""
    store: JobStore
    reactor: Any
    methods: Mapping[str, Method]
    reload: Callable[[], Reloaded]
    audit: AuditTrail
    turns: Turns
    place: FairPlace
    """A place among the calls that read or change jobs: taken before the database is asked, and kept until the result
    has been written, so that few results are in memory at a time."""
    answers: FairRoom
    """The room for this call's answer."""
    changes: Allowance
    """What each client may change in an hour."""
    submitted: Allowance
    """The files that each client may submit in an hour."""
    who: str
    """The key in whose turns long work is done."""
    began: float = 0.0
    """When the request began, by the reactor's clock."""
    database_back: Callable[[float], Awaitable[bool]] | None = None
    """Waits for a database that is away, given ``began``; returns whether it is back. None: nobody waits."""
    room: int | None = None
    """The largest answer in bytes, within a multicall; None: ``[limits] answer_size``."""

    @property
    def answer_size(self) -> int:
        """The largest answer, in bytes."""
        return self.config.limits.answer_size if self.room is None else self.room

    @property
    def config(self) -> Config:
        return self.runtime.settings

    @property
    def registry(self) -> Registry:
        return self.runtime.registry

    @property
    def http(self) -> HttpClient:
        return self.runtime.http

    @property
    def datasets(self) -> Datasets:
        return Datasets(self.runtime.datasets.by_scheme)

    def rules(self, caller: Caller) -> Rules:
        """Return the rules that requests of this caller are checked by."""
        return request_rules(
            self.runtime,
            caller.name,
            destinations=caller.destinations,
            datasets=caller.datasets,
            check_source=caller.check_source,
        )

    async def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store jobs and log them; completes when they are on disk.

        Raises Unavailable for a client that has submitted too many files, and RequestTooLarge if these alone are more
        than it may submit within an hour.
        """
        counted = self._count_submitted(jobs)
        made: list[tuple[NewJob, int]] = []
        try:
            answers = await self.store.submit(jobs)
            made = [(job, answer.id) for job, answer in zip(jobs, answers, strict=True) if answer.created]
        finally:
            if counted:
                self.submitted.give(jobs[0].owner, counted - sum(len(job.files) for job, _ in made))
        if len(made) == 1:
            [(job, id_)] = made
            log.info(
                "{owner} asked for job {job}: {what}, by {method}",
                owner=job.owner,
                job=id_,
                files=len(job.files),
                what=count(len(job.files), "file"),
                method=job.method,
            )
        elif made:
            files = sum(len(job.files) for job, _ in made)
            log.info(
                "{owner} asked for {jobs} jobs, {first} to {last}: {what}, by jobs.submit_many",
                owner=made[0][0].owner,
                jobs=len(made),
                first=made[0][1],
                last=made[-1][1],
                files=files,
                what=count(files, "file"),
            )
        return answers

    def _count_submitted(self, jobs: Sequence[NewJob]) -> int:
        """Count the files of jobs for their owner, and return how many were counted: none of an administrator's."""
        owner, files, most = jobs[0].owner, sum(len(job.files) for job in jobs), self.config.limits.submitted
        client = self.config.clients.get(owner)
        if client is None or client.admin:
            return 0
        if files > most:
            raise RequestTooLarge(
                f"{files:,} files in one call, and a client may submit {most:,} within an hour ([limits] submitted): "
                "send fewer at a time, or ask the administrator for more"
            )
        if wait := self.submitted.take(owner, files):
            raise Unavailable(
                f"this client has submitted {most:,} files within an hour ([limits] submitted): ask again in "
                f"{ceil(wait)} s"
            )
        return files

    def job_struct(self, record: JobRecord, caller: Caller) -> dict[str, Any]:
        """Return the struct that describes a job to ``caller``."""
        return records.job(record, self.config.jobs.retention, administrator=caller.administrator)

    async def in_slices(self, steps: Generator[None, None, T]) -> T:
        """Run a generator and return its result; what exceeds SLICE is done in turns. Cancelling stops it."""
        seconds = self.reactor.seconds
        until = seconds() + WORK_AT_ONCE
        try:
            while seconds() < until:
                next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        return await self.turns.run(self.who, steps)
