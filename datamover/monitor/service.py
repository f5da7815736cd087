"""How late the event loop is: a call that is due every second, and when it came."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

EVERY = 1.0
"""Seconds."""


class LagProbe(Service):
    """Tells ``lagged`` seconds, measured on a clock that nobody can set, while the service runs."""

    def __init__(self, reactor: IReactorTime, monotonic: Callable[[], float], lagged: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._lagged = lagged
        self._next: IDelayedCall | None = None

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._wait()

    def stopService(self) -> "Deferred[None] | None":  # noqa: N802
        super().stopService()
        following, self._next = self._next, None
        if following is not None:
            following.cancel()
        return None

    def _wait(self) -> None:
        self._next = self._reactor.callLater(EVERY, self._tell, self._monotonic() + EVERY)

    def _tell(self, due: float) -> None:
        self._lagged(max(0.0, self._monotonic() - due))
        self._wait()
