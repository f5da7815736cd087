"""What commands run with: the service, and who asks."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.audit.trail import Audit, AuditEvent
from datamover.console.visitor import Visitor
from datamover.errors import DataMoverError
from datamover.jobs.listing import Newest
from datamover.jobs.values import Event, FileRecord, JobRecord, NewJob, State, Submitted
from datamover.runtime.reload import Reloaded
from datamover.runtime.snapshot import RuntimeHolder

log = Logger()

T = TypeVar("T")


class Sentence(Exception):
    """What a person is told instead of an answer."""


class Store(Protocol):
    """The job store, as the console uses it. Every method may raise Unavailable."""

    @property
    def ready(self) -> bool: ...

    async def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]: ...

    async def job(self, id: int, owner: str | None = None) -> JobRecord: ...

    async def files(
        self, id: int, owner: str | None = None, *, state: State | None = None, limit: int = 100
    ) -> list[FileRecord]: ...

    async def events(
        self,
        owner: str | None = None,
        *,
        after: int = 0,
        job: int | None = None,
        limit: int = 100,
        timeout: float = 0.0,  # noqa: ASYNC109
    ) -> list[Event]: ...

    async def active(self, limit: int = 100) -> list[dict[str, Any]]: ...

    async def queue(self) -> list[dict[str, Any]]: ...

    async def sides(self) -> list[dict[str, Any]]: ...

    async def nodes(self) -> list[dict[str, Any]]: ...

    async def rate(self) -> float: ...

    async def ids_used(self) -> float: ...

    async def cancel(self, id: int) -> JobRecord: ...

    async def pause(self, id: int) -> JobRecord: ...

    async def resume(self, id: int) -> JobRecord: ...

    async def retry(self, id: int) -> JobRecord: ...

    async def renotify(self, id: int) -> JobRecord: ...

    async def hold(self, destination: str, reason: str) -> None: ...

    async def release(self, destination: str) -> None: ...

    async def drain(self, node: str | None = None, *, draining: bool = True) -> None: ...


class LogLevel(Protocol):
    """What is written to this process's log."""

    @property
    def level(self) -> str | None:
        """The least level that is; None: whoever started the process chose another way to log, and decides."""
        ...

    def set(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """What all visitors' commands use."""

    store: Store
    newest: Newest
    runtimes: RuntimeHolder
    audit: Audit
    reload: Callable[[], Reloaded]
    ready: Callable[[], Awaitable[str]]
    """Tells in words whether this process is ready."""
    log_level: LogLevel
    clock: IReactorTime


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What one visitor's commands run with."""

    service: ConsoleServices
    visitor: Visitor

    async def change(self, action: str, subject: str, doing: Awaitable[T]) -> T:
        """Await a change and record it, with its outcome, as the interface's method ``action``.

        Cancelling lets go of the answer: the change goes on and is recorded; then ``Sentence`` is raised.
        """
        answer: Deferred[T] = Deferred()

        def deliver(result: Any) -> None:
            if not answer.called:
                answer.callback(result)
            elif isinstance(result, Failure) and not isinstance(result.value, DataMoverError):
                log.failure("{action} {subject}, which nobody waits for", result, action=action, subject=subject)

        deed = AuditEvent(self.visitor.who, self.visitor.origin, action, subject)
        Deferred.fromCoroutine(self.service.audit.done(deed, doing)).addBoth(deliver)
        try:
            return await answer
        except CancelledError:
            raise Sentence(f"{action} goes on without you: audit() tells how it ended") from None
