"""Check that a file fits at its destination before it is sent."""

from datamover.engine.room.reservation import RoomAwaited
from datamover.engine.transfer.spec import TransferSpec
from datamover.errors import NoSpace
from datamover.jobs.values import Naming, Overwrite, Transfer
from datamover.protocols.base import Source
from datamover.text.quantities import count

LOOKED_FOR = 64 * 2**20
"""Bytes of a file from which a destination without ``keep_free`` is asked for its free space first."""


async def look_for_room(spec: TransferSpec, leader: Transfer) -> None:
    """Raise RoomAwaited, before the source is opened, if a file would not fit at a destination with ``keep_free``.

    A file that may be there already needs no room. ``leader`` is the transfer as it was claimed.
    """
    if spec.room is None:
        return
    sent = spec.checkpoint.offset if spec.checkpoint else 0
    wanted = leader.room_wanted or (None if spec.size is None else max(0, spec.size - sent))
    if await spec.room.look(wanted):
        return
    target = spec.target or (spec.path if spec.naming is Naming.EXACT else None)
    if spec.overwrite is Overwrite.ALWAYS or (target is not None and await spec.place.inspect(target) is None):
        raise RoomAwaited(wanted or 0)


async def took_room(spec: TransferSpec, source: Source, target: str) -> bool:
    """Call ``take_room``; return False if there is no room, but the target may be the file already."""
    try:
        await take_room(spec, source)
    except RoomAwaited:
        if spec.overwrite is Overwrite.ALWAYS or await spec.place.inspect(target) is None:
            raise
        return False
    return True


async def take_room(spec: TransferSpec, source: Source) -> None:
    """Reserve the room of an opened file if its destination has ``keep_free``, else check that a large one fits.

    Raises RoomAwaited, NoSpace and the errors of ``Place.free``.
    """
    size = source.inspection.size
    if spec.room is not None:
        await spec.room.begin(source.offset, size)
        return
    needed = (size or 0) - source.offset
    if needed < LOOKED_FOR:
        return
    free = await spec.place.free()
    if free is not None and free < needed:
        raise NoSpace(f"{count(needed, 'byte')} are needed at the destination and {free} are free: make room there")
