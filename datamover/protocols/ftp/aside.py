"""Setting an old file aside, on servers whose rename cannot replace a file.

The old file is moved into a hidden directory beside it, named after the part file; the part file takes the name; the
old file is removed. For a moment nothing has the name. In the directory the old file keeps its own name, so that after
a crash any process can put it back.
"""

import posixpath

from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.tree import FtpTree

ASIDE = ".set-aside"
"""The end of the directory's name, after the part file's name."""


async def put_back(tree: FtpTree, session: FtpSession, aside: str) -> bool:
    """Give an old file its name back, or remove it if the name is taken; return whether one was set aside."""
    # pure-ftpd delays its answers more after each request for a directory that is missing.
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


async def set_aside(tree: FtpTree, session: FtpSession, target: str, aside: str) -> None:
    """Rename a file into a hidden directory. If that raises FtpRefusal, the file has its name still.

    A file that an interrupted attempt set aside there is removed: that attempt has placed its own file since.
    """
    await put_back(tree, session, aside)
    await session.ask("MKD", aside)
    try:
        await _rename(tree, session, target, posixpath.join(aside, posixpath.basename(target)))
    except FtpRefusal:
        await session.ask("RMD", aside)
        raise


async def _rename(tree: FtpTree, session: FtpSession, old: str, new: str) -> None:
    """Rename; ignore a refusal if the file was renamed all the same."""
    try:
        await session.rename(old, new)
    except FtpRefusal:
        if await tree.find(session, old) is not None or await tree.find(session, new) is None:
            raise
