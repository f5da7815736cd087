"""How a part file takes its target's name: in one step where the server can, else by way of a file set aside.

A server without posix-rename@openssh.com renames onto nothing. There the old file goes into a hidden directory beside
it, named for the part file; the part file takes the name; the old file is removed. For an instant nothing has the
name. The old file keeps its own name in that directory, so that whoever comes after a crash can put it back.
"""

import posixpath

from datamover.protocols.sftp import messages
from datamover.protocols.sftp.messages import Status
from datamover.protocols.sftp.refusals import Refusals
from datamover.protocols.sftp.session import Session

ASIDE = b".set-aside"
"""What the directory's name ends in, after the part file's."""
_PRIVATE = 0o700


async def replace(session: Session, part: bytes, target: bytes) -> None:
    """Rename a part file to its target, whatever file has that name; refused by Status, the target is as it was."""
    if session.can(messages.POSIX_RENAME):
        await session.replace(part, target)
        return
    aside = posixpath.join(posixpath.dirname(target), posixpath.basename(part) + ASIDE)
    await put_back(session, aside)
    if await session.link_stat(target) is not None:
        await _set_aside(session, target, aside)
    try:
        await session.rename(part, target)
    except Status:
        await put_back(session, aside)
        raise
    await put_back(session, aside)


async def put_back(session: Session, aside: bytes) -> None:
    """Give what was set aside its name again, or remove it where the name was taken meanwhile; no directory is fine."""
    if await session.link_stat(aside) is None:
        return
    for name in await session.names(aside):
        if name in (b".", b".."):
            continue
        held, home = posixpath.join(aside, name), posixpath.join(posixpath.dirname(aside), name)
        if await session.link_stat(home) is None:
            await session.rename(held, home)
        else:
            await session.remove(held)
    await session.remove_directory(aside)


async def _set_aside(session: Session, target: bytes, aside: bytes) -> None:
    await session.make_directory(aside, _PRIVATE)
    try:
        await session.rename(target, posixpath.join(aside, posixpath.basename(target)))
    except Status:
        await session.remove_directory(aside)
        raise


async def claim(session: Session, part: bytes, target: bytes, path: str, refusals: Refusals) -> None:
    """Give the target's name to the part file where nothing has it; raises DestinationExists."""
    if session.can(messages.HARD_LINK) and await _link(session, part, target, path, refusals):
        await session.remove(part)
        return
    if await session.link_stat(target) is not None:
        raise refusals.exists(path)
    try:
        await session.rename(part, target)
    except Status:
        if await session.link_stat(target) is not None:
            raise refusals.exists(path) from None
        raise


async def _link(session: Session, part: bytes, target: bytes, path: str, refusals: Refusals) -> bool:
    try:
        await session.link(part, target)
    except Status:
        if await session.link_stat(target) is not None:
            raise refusals.exists(path) from None
        # Not every file system has hard links.
        return False
    return True
