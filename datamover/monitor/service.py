"""Measures how late the event loop is, by a call that is due every second."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from datamover.concurrency.loops import Loops

EVERY = 1.0
"""Seconds between two measurements."""


class LagProbe(Service):
    """Calls ``lagged`` with the seconds of delay, measured on a monotonic clock, while the service runs."""

    def __init__(
        self, reactor: IReactorTime, monotonic: Callable[[], float], lagged: Callable[[float], None], loops: Loops
    ) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._lagged = lagged
        self._loop = loops.loop("lag")

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._loop.start(self._measure)

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return self._loop.stop()

    async def _measure(self) -> None:
        while True:
            due = self._monotonic() + EVERY
            await deferLater(self._reactor, EVERY)
            self._lagged(max(0.0, self._monotonic() - due))
            self._loop.turned()
