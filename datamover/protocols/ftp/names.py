"""Names that servers are known to keep otherwise than they were told, and to say OK.

pure-ftpd has "_" for a control character or a space at the end, others leave it out, put another for a byte that is not
UTF-8, or take UTF-8 for Latin-1. Then a file would be placed over one that nobody looked at, or be where nobody looks
for it. So what is odd in a name is tried once, in the name of a hidden empty file beside it.
"""

import posixpath
import re
from contextlib import suppress
from unicodedata import normalize

from datamover.errors import DataMoverError
from datamover.protocols.ftp.client.data import Sending
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.refusals import FtpRefusals
from datamover.protocols.ftp.tree import FtpTree

TRIAL = ".trial"
"""What follows a part file's name in that of the hidden file, before what is tried."""
MOST = 40
"""Signs that one name tries, at most."""

_ODD = re.compile(r'[\x01-\x1f\x7f"*:<>?\\|]|[^\x00-\x7f]')
_LAST = re.compile(r"[\s.]\Z")


class OddNames:
    """What is odd in the names below ``tree``; ``kept`` is what the server was found to keep as it is."""

    def __init__(self, tree: FtpTree, refusals: FtpRefusals, kept: set[str]) -> None:
        self._tree = tree
        self._refusals = refusals
        self._kept = kept

    async def check(self, session: FtpSession, path: str, part: str) -> None:
        """Raise DestinationInvalid where the server keeps another name than ``path``, to be placed from ``part``.

        A server that lists nothing is believed; what it refuses to try is refused when it is used. Only what was tried
        is remembered. Raises FtpRefusal where it may be tried later.
        """
        above = ""
        for name in path.split("/"):
            signs = {_kind(sign): sign for sign in _ODD.findall(name) if _kind(sign) not in self._kept}
            last = found[0] if (found := _LAST.search(name)) and f"{found[0]}/" not in self._kept else ""
            if signs or last:
                tried = sorted(signs.values())[:MOST]
                trial = f"{posixpath.basename(part)}{TRIAL}"
                if await self._is_kept(session, path, above, trial, "".join(tried), last):
                    self._kept |= {*map(_kind, tried), f"{last}/"}
            above = posixpath.join(above, name)

    async def _is_kept(self, session: FtpSession, path: str, above: str, part: str, signs: str, last: str) -> bool:
        """Try a name; return False if the server does not let it be tried."""
        directory = await self._tree.directory(session, above, make=True)
        trial, unlisted = f"{part}{signs}{last or '-'}", None
        real = posixpath.join(directory, trial)
        try:
            await _touch(session, real)
        except FtpRefusal as refusal:
            # Where "\\" is taken for "/", the trial is in a directory that is missing; copyparty makes it at a rename.
            if refusal.code == 553 or (refusal.code >= 500 and "\\" in signs):
                raise self._refusals.no_name(path, str(refusal)) from refusal
            if refusal.code < 500:
                raise
            return False
        try:
            listed = [entry.name for entry in await self._tree.entries(session, directory)]
        except FtpRefusal as refusal:
            unlisted = refusal
            listed = [trial]
        found = [name for name in listed if name.startswith(part)]
        for name in dict.fromkeys([trial, *found]):
            await _remove(session, posixpath.join(directory, name), posixpath.join(directory, part))
        if normalize("NFC", trial) not in [normalize("NFC", name) for name in found]:
            raise self._otherwise(path, f"{signs}{last}", found[0].removeprefix(part) if found else "")
        if unlisted is not None and unlisted.code < 500:
            raise unlisted
        return True

    def _otherwise(self, path: str, signs: str, instead: str) -> DataMoverError:
        kept = f"{signs!r} as {instead.removesuffix('-')!r}" if instead else repr(signs)
        return self._refusals.unusable(
            path, f"has a name that the server keeps otherwise ({kept}): it would be another file; take another name"
        )


def _kind(sign: str) -> str:
    """Return a sign for all that servers take alike: of Unicode, 256 in a row."""
    return sign if sign < "\xa0" or "\ud800" <= sign <= "\udfff" else chr(max(ord(sign) & ~255, 0xA0))


async def _touch(session: FtpSession, real: str) -> None:
    """Make an empty file."""
    moving = await session.store(real)
    try:
        assert isinstance(moving.data, Sending)
        await moving.data.finish()
        await moving.end()
    finally:
        moving.close()


async def _remove(session: FtpSession, real: str, plain: str) -> None:
    """Remove a file as far as the server lets it be, by a ``plain`` name if not by its own."""
    try:
        await session.ask("DELE", real)
    except FtpRefusal:
        with suppress(FtpRefusal):
            await session.rename(real, plain)
            await session.ask("DELE", plain)
