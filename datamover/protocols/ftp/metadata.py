"""The mode and the modification time of a part file: set, checked, and recorded as lacks if the server cannot."""

import time

from datamover.protocols.base import Ability, Lack
from datamover.protocols.ftp.client.listing import FtpEntry
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.lacks import Lacks

STEP = 2.0
"""Seconds by which a time that a server has stored may differ."""
_LATEST = 253402300800
"""POSIX seconds of the year 10000, which four digits cannot express."""


class FtpMetadata:
    """The mode and time that one file is to have; ``without`` tells which of them it did not get."""

    def __init__(self, mode: int, modified: float | None, lacks: Lacks) -> None:
        """``modified`` is in POSIX seconds; a time that FTP cannot express is not set."""
        self._mode = mode
        self._modified = None if modified is None else int(modified // 1)
        self._lacks = lacks
        self.without: list[Lack] = []
        if self._modified is not None and not 0 <= self._modified < _LATEST:
            self.without.append(Lack(Ability.SET_MODIFIED, "FTP cannot express a time so far away"))
            self._modified = None

    async def set(self, session: FtpSession, real: str) -> None:
        """Set both, the time last, since some servers change it with the mode."""
        for ability, ways in (
            (Ability.SET_MODE, [("SITE", f"CHMOD {self._mode:04o} {real}")]),
            (Ability.SET_MODIFIED, self._ways(session, real)),
        ):
            lack = self._lacks.get(ability) if ways else None
            if lack is not None:
                self.without.append(lack)
            elif ways:
                await self._set(session, ability, ways)

    def check(self, found: FtpEntry) -> None:
        """Record a lack if the server reports another time than the one that was set."""
        if self._modified is None or any(lack.ability is Ability.SET_MODIFIED for lack in self.without):
            return
        if found.modified is not None and abs(found.modified - self._modified) > STEP:
            self.without.append(self._lacks.learn(Ability.SET_MODIFIED, "the server keeps another"))

    def _ways(self, session: FtpSession, real: str) -> list[tuple[str, str]]:
        """Return the ways to set the time, the standard's first (draft-somers-ftp-mfxx; MDTM so is vsftpd's)."""
        if self._modified is None:
            return []
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(self._modified))
        if "MFMT" in session.features:
            return [("MFMT", f"{stamp} {real}")]
        return [("MFMT", f"{stamp} {real}"), ("MDTM", f"{stamp} {real}")]

    async def _set(self, session: FtpSession, ability: Ability, ways: list[tuple[str, str]]) -> None:
        said: FtpRefusal | None = None
        for verb, argument in ways:
            try:
                await session.ask(verb, argument)
            except FtpRefusal as refusal:
                if refusal.code in (421, 530):
                    raise
                said = refusal
            else:
                self._lacks.saw(ability)
                return
        self.without.append(self._lacks.learn(ability, f"the server refuses it: {said}"))
