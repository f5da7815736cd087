"""What the service tree is held together by: services that stop in order, and what all of them use."""

from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from datamover.datasets.configured import Datasets
from datamover.registry.destinations import Registry


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


class Connections(Service):
    """The connections to sources and destinations, closed when nobody uses them any more."""

    def __init__(self, registry: Registry, datasets: Datasets) -> None:
        self._registry = registry
        self._datasets = datasets

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._datasets.close()
        await self._registry.close()
