"""The context of a command: the service, and the visitor who runs it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.audit.trail import AuditEvent, AuditTrail
from datamover.console.visitor import Visitor
from datamover.errors import DataMoverError
from datamover.jobs.listing import Newest
from datamover.jobs.store import JobStore
from datamover.runtime.reload import Reloaded
from datamover.runtime.snapshot import RuntimeHolder

log = Logger()

T = TypeVar("T")


class CommandError(Exception):
    """A command that cannot be run, or an answer that cannot be given; the message is shown to the visitor."""


class LogLevel(Protocol):
    """The level of this process's log."""

    @property
    def level(self) -> str | None:
        """The least level that is written; None: the process was started with another observer of the log."""
        ...

    def set(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """The dependencies of all commands."""

    store: JobStore
    newest: Newest
    runtimes: RuntimeHolder
    audit: AuditTrail
    reload: Callable[[], Reloaded]
    ready: Callable[[], Awaitable[str]]
    """Tells in words whether this process is ready."""
    log_level: LogLevel
    clock: IReactorTime


@dataclass(frozen=True, slots=True, eq=False)
class CommandContext:
    """The dependencies of one visitor's commands, and the visitor."""

    service: ConsoleServices
    visitor: Visitor

    async def change(self, action: str, subject: str, doing: Awaitable[T]) -> T:
        """Await a change and record it, with its outcome, as the interface's method ``action``.

        Cancelling lets go of the answer: the change goes on and is recorded; then ``CommandError`` is raised.
        """
        answer: Deferred[T] = Deferred()

        def deliver(result: Any) -> None:
            if not answer.called:
                answer.callback(result)
            elif isinstance(result, Failure) and not isinstance(result.value, DataMoverError):
                log.failure("{action} {subject}, which nobody waits for", result, action=action, subject=subject)

        event = AuditEvent(self.visitor.who, self.visitor.origin, action, subject)
        Deferred.fromCoroutine(self.service.audit.done(event, doing)).addBoth(deliver)
        try:
            return await answer
        except CancelledError:
            raise CommandError(f"{action} goes on without you: audit() tells how it ended") from None
