"""Services that need those before them, as one service."""

from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver
from twisted.python.components import Componentized


class Ordered(MultiService):
    """Services that need those before them: stopped one after the other, the last first."""

    def __init__(self, observer: ILogObserver | None = None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        if self._observer is not None and isinstance(parent, Componentized):
            # The application: twistd looks there for what it is to log to.
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)
