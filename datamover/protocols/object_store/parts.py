"""Send the parts of one upload, several at a time, numbered in the order of the bytes."""

import random
from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from datamover.concurrency.waiters import Waiters
from datamover.errors import ConnectionLost, DataMoverError
from datamover.protocols.again import pause_before
from datamover.protocols.object_store.limits import PartLimits
from datamover.protocols.object_store.seam import ObjectStore, Part


class PartSender:
    """Sends parts, at most ``at_once`` at a time; one that fails for the moment is sent again."""

    def __init__(
        self, store: ObjectStore, path: str, upload: str, done: Iterable[Part], at_once: int, clock: IReactorTime
    ) -> None:
        self._store = store
        self._path = path
        self._upload = upload
        self._parts: list[Part | None] = list(done)
        self._at_once = at_once
        self._clock = clock
        self._running: dict[int, Deferred[None]] = {}
        self._changed: Waiters[None] = Waiters()
        self._error: Exception | None = None

    def __len__(self) -> int:
        """Return how many parts were passed to ``send``, and existed before."""
        return len(self._parts)

    async def send(self, data: bytes) -> int:
        """Begin to send the next part; return its number. Waits while ``at_once`` parts are in flight.

        Raises errors of earlier parts.
        """
        number = len(self._parts) + 1
        self._parts.append(None)
        try:
            while len(self._running) >= self._at_once and self._error is None:
                await self._changed.wait()
        except CancelledError:
            self._fail(self._given_up())  # Without this part, those after it would have the wrong offset.
            raise
        self._check()
        self._running[number] = Deferred.fromCoroutine(self._put(number, data))
        if self._parts[number - 1] is not None or self._error is not None:
            self._running.pop(number, None)  # It ended at once.
        return number

    async def arrived(self, count: int) -> list[Part]:
        """Wait until the service has the first ``count`` parts and return them. Raises the error of any part."""
        while None in self._parts[:count] and self._error is None:
            await self._changed.wait()
        self._check()
        return [part for part in self._parts[:count] if part is not None]

    async def close(self) -> None:
        """Cancel the parts in flight; completes when none is left."""
        for sending in list(self._running.values()):
            sending.cancel()
        while self._running:
            await self._changed.wait()

    async def _put(self, number: int, data: bytes) -> None:
        try:
            self._parts[number - 1] = await self._sent(number, data)
        except CancelledError:
            self._fail(self._given_up())
        except Exception as error:  # Whoever waits for the part raises it.
            self._fail(error)
        finally:
            self._running.pop(number, None)
            self._changed.wake(None)

    async def _sent(self, number: int, data: bytes) -> Part:
        tries = 0
        while True:
            try:
                return await self._store.put_part(self._path, self._upload, number, data)
            except DataMoverError as error:
                tries += 1
                pause = pause_before(tries, error, random.random)
                # The upload fails with the first part that does.
                if pause is None or self._error is not None:
                    raise
            await deferLater(self._clock, pause)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._changed.wake(None)

    def _given_up(self) -> DataMoverError:
        refusals = self._store.refusals
        return ConnectionLost(f"{refusals.what(self._path)}: a part was given up", scope=refusals.side)

    def _check(self) -> None:
        error = self._error
        if isinstance(error, DataMoverError):
            raise error.copy()
        if error is not None:
            raise error


def part_size(limits: PartLimits, wanted: int, size: int | None, number: int, done: int) -> int:
    """Return the bytes of the part after ``number`` others, which have ``done`` bytes, so that all of the file fits.

    If the file's ``size`` (bytes) is unknown, the parts grow with their number.
    """
    if size is None:
        return min(limits.largest, wanted * (1 + number * 10 // limits.most))
    needed = -(-(size - done) // max(1, limits.most - number))
    return min(limits.largest, max(_planned(limits, wanted, size), needed))


def may_end_early(limits: PartLimits, wanted: int, size: int | None, number: int, done: int) -> bool:
    """Tell whether a part may be smaller: the bytes after ``number`` parts, which have ``done`` bytes, must still fit.

    Otherwise a slow source, for which parts end at checkpoints, would use up the part numbers.
    """
    if size is None:
        return number <= limits.most // 10
    return size - done <= _planned(limits, wanted, size) * (limits.most - number)


def _planned(limits: PartLimits, wanted: int, size: int) -> int:
    """Return the bytes of a part, if a tenth of the numbers is reserved for parts that end early."""
    return max(wanted, -(-size * 10 // (limits.most * 9)))
