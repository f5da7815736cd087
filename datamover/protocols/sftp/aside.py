"""A file set aside, where a server renames onto nothing that is there.

A server without posix-rename@openssh.com renames onto nothing. There the old file goes into a hidden directory beside
it, named for the part file; the part file takes the name; the old file is removed. For an instant nothing has the
name. The old file keeps its own name in that directory, so that whoever comes after a crash can put it back.
"""

import posixpath

from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession

ASIDE = b".set-aside"
"""What the directory's name ends in, after the part file's."""
_PRIVATE = 0o700


async def put_back(session: SftpSession, aside: bytes) -> None:
    """Give what was set aside its name again, or remove it where the name was taken meanwhile; no directory is fine."""
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
    """Rename a file into a hidden directory, which is made for it; refused by SftpError, it is as it was."""
    await session.make_directory(aside, _PRIVATE)
    try:
        await _rename(session, target, posixpath.join(aside, posixpath.basename(target)))
    except SftpError:
        await session.remove_directory(aside)
        raise


async def _rename(session: SftpSession, old: bytes, new: bytes) -> None:
    """Rename; a refusal of what was done all the same is none."""
    try:
        await session.rename(old, new)
    except SftpError:
        if await session.find(old) is not None or await session.find(new) is None:
            raise
