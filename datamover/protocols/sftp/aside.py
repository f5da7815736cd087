"""Setting an old file aside, on servers whose rename cannot replace a file.

Those are the servers without posix-rename@openssh.com. The old file is moved into a hidden directory beside it, named
after the part file; the part file takes the name; the old file is removed. For a moment nothing has the name. In the
directory the old file keeps its own name, so that after a crash any process can put it back.
"""

import posixpath

from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession

ASIDE = b".set-aside"
"""The end of the directory's name, after the part file's name."""
_PRIVATE = 0o700


async def put_back(session: SftpSession, aside: bytes) -> None:
    """Give an old file its name back, or remove it if the name is taken; do nothing if none was set aside."""
    if await session.find(aside) is None:
        return
    for name in await session.names(aside):
        if name in (b".", b".."):
            continue
        held, home = posixpath.join(aside, name), posixpath.join(posixpath.dirname(aside), name)
        if await session.find(home) is None:
            await _rename(session, held, home)
        else:
            await session.remove(held)
    await session.remove_directory(aside)


async def set_aside(session: SftpSession, target: bytes, aside: bytes) -> None:
    """Rename a file into a new hidden directory. If that raises SftpError, the file has its name still."""
    await session.make_directory(aside, _PRIVATE)
    try:
        await _rename(session, target, posixpath.join(aside, posixpath.basename(target)))
    except SftpError:
        await session.remove_directory(aside)
        raise


async def _rename(session: SftpSession, old: bytes, new: bytes) -> None:
    """Rename; ignore a refusal if the file was renamed all the same."""
    try:
        await session.rename(old, new)
    except SftpError:
        if await session.find(old) is not None or await session.find(new) is None:
            raise
