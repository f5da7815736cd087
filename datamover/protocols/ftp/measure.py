"""Learn how many bytes a file on a server has: from the server, or by reading the file if it does not say."""

from typing import Any

from twisted.internet.task import deferLater

from datamover.errors import DataMoverError, NoSpace, Stalled
from datamover.protocols.ftp.client.data import Receiving
from datamover.protocols.ftp.client.listing import FtpEntry
from datamover.protocols.ftp.client.moving import Moving
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession, says_missing
from datamover.protocols.ftp.client.sessions import Sessions
from datamover.protocols.ftp.refusals import FtpRefusals
from datamover.protocols.ftp.tree import FtpTree

SETTLED = 0.5
"""Seconds without growth after which a file is taken to hold all that the server will write for now."""
PAUSES = (0.005, 0.2)
"""Seconds between two looks at a file that grows: the first, and the longest."""


async def measure(session: FtpSession, real: str, found: FtpEntry) -> int:
    """Return how many bytes a file has that was ``found``. Raises FtpRefusal, and the connection's errors."""
    if found.size is not None:
        return found.size
    moving = await session.retrieve(real)
    try:
        assert isinstance(moving.data, Receiving)
        count = 0
        while data := await moving.data.read():
            count += len(data)
        await moving.end()
        return count
    finally:
        moving.close()


async def measure_sent(
    clock: Any, tree: FtpTree, session: FtpSession, real: str, sent: int
) -> tuple[FtpEntry | None, int]:
    """Return the entry and the size of a file after ``sent`` bytes were sent; waits while it grows.

    Some servers report the end of a transfer before they have written all of it.
    """
    most, since, pause = -1, clock.seconds(), PAUSES[0]
    while True:
        found = await tree.find(session, real)
        held = await measure(session, real, found) if found is not None and found.kind == "file" else -1
        now = clock.seconds()
        if held > most:
            most, since = held, now
        if held >= sent or now - since > SETTLED:
            return found, held
        await deferLater(clock, pause)
        pause = min(pause * 2, PAUSES[1])


async def stored(
    moving: Moving, real: str, sent: int, path: str, sessions: Sessions, tree: FtpTree, refusals: FtpRefusals
) -> None:
    """Wait until the server reports that it has stored the ``sent`` bytes of a file.

    Raises its refusal; NoSpace if that gives no reason and the free space that the server reports is less than the
    file lacks; ConnectionLost if the server closed the data connection and reports nothing.
    """
    try:
        await moving.end()
    except (FtpRefusal, Stalled) as error:
        if isinstance(error, Stalled) and not moving.unexplained:
            raise
        told = refusals.of(error, path) if isinstance(error, FtpRefusal) else refusals.broke(path, sent)
        if not isinstance(told, NoSpace) and await _is_full(real, sent, sessions, tree):
            raise refusals.full(path) from error
        if isinstance(error, FtpRefusal):
            if says_missing(error):  # Some say it only when all was sent.
                tree.forget()
                raise refusals.undirected(path) from error
            raise
        raise told from error


async def _is_full(real: str, sent: int, sessions: Sessions, tree: FtpTree) -> bool:
    try:
        side = await sessions.side()
        room = None if side is None else await tree.free(side)
        if side is None or room is None:
            return False
        found = await tree.find(side, real)
    except (FtpRefusal, DataMoverError):
        return False  # What ended the transfer is told.
    held = 0 if found is None else found.size
    return held is not None and room < sent - held
