"""Ask destinations how much room they have, once for all transfers that need to know at the same time."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.engine.room.volumes import Volumes
from datamover.errors import DataMoverError
from datamover.jobs.queue.room import Survey
from datamover.registry.destinations import Destination

FRESH = 1.0
"""Seconds for which an answer is used."""


class Surveys:
    """The last answers of the destinations to this process."""

    def __init__(
        self,
        reserved: Callable[[Sequence[str]], Awaitable[Survey]],
        volumes: Volumes,
        monotonic: Callable[[], float],
    ) -> None:
        """``reserved`` returns what transfers to some destinations have reserved and written, over all nodes."""
        self._reserved = reserved
        self._volumes = volumes
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, Survey]] = {}
        self._asking: dict[str, Waiters[Survey]] = {}

    async def take(self, destination: Destination, *, anew: bool = False) -> Survey:
        """Return an answer that is at most ``FRESH`` seconds old, or with ``anew`` one that is requested now.

        Raises the errors of ``Place.free``, and Unavailable. Cancelling only stops the waiting.
        """
        name = destination.name
        known = self._known.get(name)
        if known is not None and not anew and self._monotonic() - known[0] < FRESH:
            return known[1]
        if anew and name in self._asking:
            with suppress(DataMoverError):
                await self._asking[name].wait()
        if name not in self._asking:
            self._asking[name] = Waiters()
            answer = self._asking[name].wait()
            Deferred.fromCoroutine(self._ask(destination)).addBoth(partial(self._answered, name))
            return await answer
        return await self._asking[name].wait()

    async def _ask(self, destination: Destination) -> Survey:
        beside = await self._volumes.beside(destination)
        # In this order, bytes that are written in between count twice; in the other, they would count as free.
        reserved = await self._reserved(beside)
        return replace(reserved, free=await destination.free())

    def _answered(self, name: str, survey: Survey | Failure) -> None:
        waiting = self._asking.pop(name)
        if isinstance(survey, Survey):
            self._known[name] = self._monotonic(), survey
        waiting.wake(survey)
