"""The room that one attempt reserves at a destination with ``keep_free``."""

import math
from dataclasses import dataclass

from datamover.engine.lease import Parked
from datamover.engine.room.survey import Surveys
from datamover.errors import NoSpace
from datamover.jobs.queue.reservations import Reservations
from datamover.jobs.queue.room import LEAST, STEP, RoomRequest, Survey, blocks, room_of
from datamover.jobs.values import Transfer
from datamover.protocols.base import Ability, Lack
from datamover.registry.destinations import Destination
from datamover.text.quantities import count


class RoomAwaited(Parked):
    """There is no room for a group now; it waits, and the attempt is not counted."""

    def __init__(self, wanted: int) -> None:
        super().__init__("there is no room at the destination; it waits for some")
        self.wanted = wanted
        """Bytes; 0: unknown."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """The dependencies of all reservations of one process."""

    surveys: Surveys
    reservations: Reservations


class RoomReservation:
    """The room of one group."""

    def __init__(self, rooms: Rooms, destination: Destination, leader: Transfer, *, counted: bool = True) -> None:
        """``counted`` tells whether the leader's progress is the progress of the group."""
        self._rooms = rooms
        self._destination = destination
        self._keep = destination.keep_free or 0
        self._leader = leader
        self._live = destination.counts_arriving
        self._counted = counted and self._live
        self._start = 0
        self.until: float = math.inf
        """The offset in its file up to which the group may write."""
        self.lacks: tuple[Lack, ...] = ()
        """The lack of FREE_SPACE, because of which nothing can be kept free."""

    async def look(self, wanted: int | None) -> bool:
        """Tell whether ``wanted`` bytes (None: unknown) may fit, before work is spent on them.

        Raises the errors of ``Place.free``, and Unavailable.
        """
        survey = await self._rooms.surveys.take(self._destination)
        if survey.free is None:
            return True
        return room_of(survey, self._keep, survey.given).left >= (LEAST if wanted is None else blocks(wanted))

    async def begin(self, start: int, size: int | None) -> None:
        """Reserve room for a file of ``size`` bytes from ``start`` on; if that is unknown (None), for its first bytes.

        Raises RoomAwaited if it does not fit now, the errors of ``Place.free``, and Unavailable.
        """
        survey = await self._rooms.surveys.take(self._destination)
        if survey.free is None:
            self.lacks = tuple(lack for lack in self._destination.lacks if lack.ability is Ability.FREE_SPACE)
            return
        # If the free space excludes a file only after its commit, all of it needs room, whatever has arrived.
        self._start = start = start if self._live else 0
        wanted = None if size is None else blocks(max(0, size - start))
        if wanted == 0:
            self.until = start
            return
        least, most = (LEAST, STEP) if wanted is None else (wanted, wanted)
        granted = await self._rooms.reservations.reserve(self._request(survey, start, least, most))
        if not granted:
            raise RoomAwaited(wanted or 0)
        self.until = start + granted

    async def extend(self, written: int, more: int, *, stored: bool) -> bool:
        """Reserve room for ``more`` bytes and some beyond, after ``written`` bytes of the file; return whether it fits.

        ``stored``: the destination has stored all that was written, so its free space is exact.
        """
        survey = await self._rooms.surveys.take(self._destination, anew=stored)
        if survey.free is None:
            self.until = math.inf
            return True
        key = self._leader.id, self._leader.lease
        seen = written if stored and self._live else max(self._start, survey.seen(key))
        least = written + more - seen
        request = self._request(survey, seen, least, max(least, written + STEP - seen), running=True)
        granted = await self._rooms.reservations.reserve(request)
        self.until = max(self.until, seen + granted)
        return granted > 0

    def used_up(self, written: int) -> NoSpace:
        """Return the error for a file that would use the space that must stay free."""
        return NoSpace(
            f"{count(written, 'byte')} have arrived, and more would leave less than keep_free, {self._keep} bytes, "
            "free at the destination: make room there"
        )

    def _request(self, survey: Survey, base: int, least: int, most: int, *, running: bool = False) -> RoomRequest:
        return RoomRequest(
            transfer=self._leader.id,
            lease=self._leader.lease,
            destination=self._destination.name,
            keep=self._keep,
            survey=survey,
            start=self._start,
            base=base,
            had=int(self.until) if running else base,
            least=least,
            most=most,
            counted=self._counted,
            running=running,
        )
