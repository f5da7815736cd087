"""A file set aside, where a server renames onto nothing that is there.

The old file goes into a hidden directory beside it, named for the part file; the part file takes the name; the old file
is removed. For an instant nothing has the name. The old file keeps its own name in that directory, so that whoever
comes after a crash can put it back.
"""

import posixpath

from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.tree import Tree

ASIDE = ".set-aside"
"""What the directory's name ends in, after the part file's."""


async def put_back(tree: Tree, session: FtpSession, aside: str) -> bool:
    """Give what was set aside its name again, or remove it where that was taken meanwhile; tell if there was any."""
    # pure-ftpd lets one wait longer after each directory that is not there.
    if "MLST" in session.features and await tree.find(session, aside) is None:
        return False
    try:
        await session.enter(aside)
    except FtpRefusal:
        return False
    for entry in await tree.entries(session, aside):
        if entry.name in (".", ".."):
            continue
        held, home = posixpath.join(aside, entry.name), posixpath.join(posixpath.dirname(aside), entry.name)
        if await tree.find(session, home) is None:
            await _rename(tree, session, held, home)
        else:
            await session.ask("DELE", held)
    # A server does not always remove a directory that somebody is in.
    await session.enter(posixpath.dirname(aside))
    await session.ask("RMD", aside)
    return True


async def set_aside(tree: Tree, session: FtpSession, target: str, aside: str) -> None:
    """Rename a file into a hidden directory, which is made for it; refused by FtpRefusal, it is as it was.

    What an attempt had set aside there that died after it had placed its file is given up.
    """
    await put_back(tree, session, aside)
    await session.ask("MKD", aside)
    try:
        await _rename(tree, session, target, posixpath.join(aside, posixpath.basename(target)))
    except FtpRefusal:
        await session.ask("RMD", aside)
        raise


async def _rename(tree: Tree, session: FtpSession, old: str, new: str) -> None:
    """Rename; a refusal of what was done all the same is none."""
    try:
        await session.rename(old, new)
    except FtpRefusal:
        if await tree.find(session, old) is not None or await tree.find(session, new) is None:
            raise
