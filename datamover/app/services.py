"""Services of the process itself: the ordered tree, name resolution, shared connections, and signals."""

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
"""Seconds before the deadline of a part at which the part itself gives up waiting."""


class Ordered(MultiService):
    """A tree whose services need those before them: it stops them one by one, last first, within ``seconds`` in all."""

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


class NameResolution(Service):
    """Has the reactor resolve host names through ``names``, which has threads of its own, while the service runs."""

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


class ConnectionCloser(StoppableService):
    """Closes the connections to sources and destinations after everything that uses them has stopped."""

    what = "the connections to sources and destinations"
    needs = 2.0

    def __init__(self, runtimes: RuntimeHolder) -> None:
        self._runtimes = runtimes

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._runtimes.close())


class ReloadSignal(Service):
    """Calls ``reload`` at SIGHUP while the service runs."""

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
        event = AuditEvent("SIGHUP", "signal", "service.reload")
        reloading = Deferred.fromCoroutine(self._audit.done(event, maybeDeferred(self._reload)))
        reloading.addErrback(lambda failure: failure.trap(ConfigError))  # It has been logged.


class StopSignals(Service):
    """Ignores a second SIGINT or SIGTERM while the first is being obeyed.

    The reactor's own handlers would log an error at the second one.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._before: dict[int, Any] = {}
        self._asked = False

    def startService(self) -> None:  # noqa: N802
        super().startService()
        # The reactor has installed its handlers by then.
        self._reactor.callWhenRunning(self._take)

    def stopService(self) -> None:  # noqa: N802
        super().stopService()
        if not self._asked:  # Otherwise the process is ending, and further signals are still ignored.
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _take(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if self.running and callable(signal.getsignal(number)):
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked:
            self._reactor.callFromThread(log.info, "the service is stopping already: it waits for running work")
            return
        self._asked = True
        end_within(WITHIN)
        self._before[number](number, frame)
