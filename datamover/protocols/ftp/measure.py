"""How many bytes a file on a server has: as the server tells, or by reading it where it tells nothing."""

from datamover.protocols.ftp.client.data import Receiving
from datamover.protocols.ftp.client.listing import Entry
from datamover.protocols.ftp.client.session import FtpSession


async def measure(session: FtpSession, real: str, found: Entry) -> int:
    """Return the bytes of a file that was ``found``. Raises FtpRefusal, and what befalls the connection."""
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
