"""Parts of the service tree that belong to no room: the tree itself, the connections of all, what signals mean."""

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from datamover.audit.trail import AuditEvent, AuditTrail
from datamover.concurrency.host_names import HostNames
from datamover.concurrency.stopping import WITHIN, Deadline, StoppableService, end_within, log_pending
from datamover.errors import ConfigError
from datamover.runtime.snapshot import RuntimeHolder

log = Logger()

HURRY = 0.2
"""Seconds before its time is over in which a part is to have ended by itself."""


class Ordered(MultiService):
    """Services that need those before them: stopped one after the other, the last first, within ``seconds`` in all."""

    def __init__(self, clock: IReactorTime, *, seconds: float = WITHIN) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        deadline = Deadline(self._clock, self._seconds)
        services = list(reversed(list(self)))
        kept = sum(_needs(service) for service in services)
        for service in services:
            kept -= _needs(service)
            own = deadline.earlier(kept)
            what = type(service).__name__
            if isinstance(service, StoppableService):
                service.deadline, what = own.earlier(HURRY), service.what
            await own.ends(maybeDeferred(service.stopService), what)
        log_pending()


def _needs(service: IService) -> float:
    return service.needs if isinstance(service, StoppableService) else 0.0


class Resolving(Service):
    """Has the reactor look names up by ``names`` while it runs: by threads of their own, instead of the reactor's."""

    def __init__(self, reactor: Any, names: HostNames) -> None:
        self._reactor = reactor
        self._names = names
        self._before: Any = None

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._before = self._reactor.installNameResolver(self._names)

    def stopService(self) -> None:  # noqa: N802
        super().stopService()
        self._reactor.installNameResolver(self._before)


class Connections(StoppableService):
    """The connections to sources and destinations, closed when nobody uses them any more."""

    what = "the connections to sources and destinations"
    needs = 2.0

    def __init__(self, runtimes: RuntimeHolder) -> None:
        self._runtimes = runtimes

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._runtimes.close())


class HangUp(Service):
    """Calls ``reload`` at SIGHUP, while it runs."""

    def __init__(self, reactor: Any, reload: Callable[[], object], audit: AuditTrail) -> None:
        self._reactor = reactor
        self._reload = reload
        self._audit = audit
        self._before: Any = None

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._before = signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hung_up))

    def stopService(self) -> None:  # noqa: N802
        super().stopService()
        signal.signal(signal.SIGHUP, self._before)

    def _hung_up(self) -> None:
        event = AuditEvent("?", "SIGHUP", "service.reload")
        reloading = Deferred.fromCoroutine(self._audit.done(event, maybeDeferred(self._reload)))
        reloading.addErrback(lambda failure: failure.trap(ConfigError))  # it was logged


class Ending(Service):
    """Lets whoever is impatient ask again for the end: the first SIGINT or SIGTERM is being obeyed, and is enough.

    The reactor's own handlers would take the second for a mistake, and log it as one.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._before: dict[int, Any] = {}
        self._asked = False

    def startService(self) -> None:  # noqa: N802
        super().startService()
        # Then the reactor has set its handlers.
        self._reactor.callWhenRunning(self._take)

    def stopService(self) -> None:  # noqa: N802
        super().stopService()
        if not self._asked:  # Else the process ends, and may be asked until it has.
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _take(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if self.running and callable(signal.getsignal(number)):
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked:
            self._reactor.callFromThread(log.info, "ending already, once what is under way is safe")
            return
        self._asked = True
        end_within(WITHIN)
        self._before[number](number, frame)
