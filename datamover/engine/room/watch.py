"""Wake transfers that wait for room at a destination when there is room; one request serves all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.engine.room.reservation import Rooms
from datamover.errors import DataMoverError
from datamover.registry.destinations import Registry

log = Logger()


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """The settings in force."""

    registry: Registry
    interval: float
    """Seconds between two requests to one destination, over all processes."""


class RoomWatch:
    """Wakes transfers that wait for room; every engine has one, and they share the work."""

    def __init__(self, rooms: Rooms, settings: Callable[[], RoomSettings]) -> None:
        self._rooms = rooms
        self._settings = settings
        self._looking: dict[str, Deferred[None]] = {}

    async def look(self) -> None:
        """Begin to ask the destinations where transfers wait and that no process has asked for a while.

        One that does not answer does not delay the others. Raises Unavailable.
        """
        settings = self._settings()
        for name in await self._rooms.reservations.due(settings.interval):
            if name not in self._looking and name in settings.registry.names():
                looking = Deferred.fromCoroutine(self._wake(settings.registry, name))
                self._looking[name] = looking
                looking.addErrback(_failed, name).addBoth(partial(self._looked, name))

    def stop(self) -> list["Deferred[None]"]:
        """Cancel the requests; the Deferreds fire when they have ended."""
        looking = list(self._looking.values())
        for one in looking:
            one.cancel()
        return looking

    async def _wake(self, registry: Registry, name: str) -> None:
        destination = registry.get(name)
        if destination.keep_free is None:
            await self._wake_all(name)
            return
        try:
            survey = await self._rooms.surveys.take(destination, anew=True)
        except DataMoverError as error:
            log.warn("the free space of destination {name} is unknown: {error}", name=name, error=error.full)
            # Its attempt meets the same error and reports it.
            await self._rooms.reservations.wake_first(name, 1)
            return
        if survey.free is None:
            await self._wake_all(name)
            return
        await self._rooms.reservations.wake(name, survey, destination.keep_free)

    async def _wake_all(self, name: str) -> None:
        while await self._rooms.reservations.wake_first(name):
            pass

    def _looked(self, name: str, _: object) -> None:
        self._looking.pop(name, None)


def _failed(failure: Failure, name: str) -> None:
    if isinstance(failure.value, DataMoverError):
        log.warn("transfers that wait for room at {name} stay: {error}", name=name, error=str(failure.value))
    elif not isinstance(failure.value, CancelledError):
        log.failure("transfers that wait for room at {name} stay", failure, name=name)
