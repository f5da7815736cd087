"""How many bytes a file on a server has: as the server tells, or by reading it where it tells nothing."""

from typing import Any

from twisted.internet.task import deferLater

from datamover.protocols.ftp.client.data import Receiving
from datamover.protocols.ftp.client.listing import Entry
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.tree import Tree

SETTLED = 0.5
"""Seconds after which a file that does not grow is believed to hold all that the server writes now."""
PAUSES = (0.005, 0.2)
"""Seconds between two looks at a file that grows: the first, and the longest."""


async def measure(session: FtpSession, real: str, found: Entry) -> int:
    """Return the bytes of a file that was ``found``. Raises FtpRefusal, and the connection's errors."""
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


async def measure_sent(clock: Any, tree: Tree, session: FtpSession, real: str, sent: int) -> tuple[Entry | None, int]:
    """Return what has a name now that ``sent`` bytes were sent there, and how many bytes that has.

    Some servers say that all has arrived before they have written it: one waits while the file grows.
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
