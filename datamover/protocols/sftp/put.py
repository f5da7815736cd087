"""Write a small part file by requests that are sent together."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from datamover.protocols.base import Lack
from datamover.protocols.sftp.client.link import Link
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession
from datamover.protocols.sftp.completing import complete
from datamover.protocols.sftp.metadata import SftpMetadata
from datamover.protocols.sftp.parts import SftpParts
from datamover.protocols.sftp.sink import raise_refused


async def write_whole(
    parts: SftpParts, link: Link, session: SftpSession, part: str, target: str, data: bytes, metadata: SftpMetadata
) -> tuple[bytes, Sequence[Lack]]:
    """Write a whole part file; return its real path, and what could not be done beside ``metadata``.

    Raises the errors of opening, writing, flushing and closing.
    """
    opened = await parts.open(link, session, part, target, 0)
    content, step = memoryview(data), session.write_size

    def write() -> list[Deferred[None]]:
        pieces = [(start, content[start : start + step]) for start in range(0, len(data), step)]
        return [session.write(opened.handle, start, [piece], len(piece)) for start, piece in pieces]

    try:
        without = await complete(
            session,
            opened.handle,
            opened.real,
            metadata=metadata,
            cut=len(data) if opened.longer_than(len(data)) else None,
            close=lambda: session.close(opened.handle),
            before=write,
            lacks=parts.lacks,
        )
    except SftpError as refusal:
        await raise_refused(refusal, session, opened.real, parts.refusals, target)
    return opened.real, without
