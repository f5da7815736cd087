"""The mode and the modification time of a part file: set, checked, and recorded as lacks if the server cannot."""

from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client.messages import Attributes, SftpError
from datamover.protocols.sftp.client.session import SftpSession

STEP = 2
"""Seconds by which a time that a server has stored may differ."""
_LATEST = 2**32 - 1
"""POSIX seconds; SFTP has 32 bits for them (draft-ietf-secsh-filexfer-02, section 5)."""
_PERMISSIONS = 0o7777


class SftpMetadata:
    """The mode and time that one file is to have; ``without`` tells which of them it did not get."""

    def __init__(self, mode: int, modified: float | None, lacks: Lacks) -> None:
        """``modified`` is in POSIX seconds; a time that SFTP cannot express is not set."""
        self._lacks = lacks
        self._without: dict[Ability, Lack] = {}
        self._mode = mode
        self._modified: int | None = None
        if modified is not None and not 0 <= modified <= _LATEST:
            self._without[Ability.SET_MODIFIED] = Lack(Ability.SET_MODIFIED, "SFTP cannot express a time so far away")
        elif modified is not None:
            self._modified = int(modified)
        self._wanted = (Ability.SET_MODE,) if self._modified is None else (Ability.SET_MODE, Ability.SET_MODIFIED)

    @property
    def without(self) -> list[Lack]:
        return list(self._without.values())

    def attributes(self, size: int | None = None) -> Attributes:
        """Return both as attributes for one request, with a size if the file is to be cut to it."""
        return Attributes(size, self._mode, self._modified)

    async def set_apart(self, session: SftpSession, real: bytes) -> None:
        """Set each by a request of its own, by path, after the one request for both by handle was refused."""
        for ability in self._wanted:
            await self._set(session, real, ability)

    async def check(self, session: SftpSession, real: bytes, found: Attributes) -> None:
        """Compare with what was ``found``, set what differs once more, and record what still differs.

        Some servers give a file the time of its closing.
        """
        told = self._told(found)
        wrong = [ability for ability, otherwise in told.items() if otherwise and ability not in self._without]
        if wrong:
            for ability in wrong:
                await self._set(session, real, ability)
            told = self._told(await session.stat(real) or found)
            for ability, otherwise in told.items():
                if otherwise and ability not in self._without:
                    self._without[ability] = self._lacks.learn(ability, f"the server keeps {otherwise}")
        for ability in self._wanted:
            if ability not in self._without:
                self._lacks.saw(ability)
        # A refused value that the file has nevertheless, because it was created with it, is not lacking.
        for ability, otherwise in told.items():
            if not otherwise:
                self._without.pop(ability, None)

    def _told(self, found: Attributes) -> dict[Ability, str]:
        """Return for each value that the server reports how it differs from the wanted one, "" if it does not."""
        told = {}
        if found.mode is not None:
            mode = found.mode & _PERMISSIONS
            told[Ability.SET_MODE] = "" if mode == self._mode else f"{mode:04o}, asked was {self._mode:04o}"
        if found.modified is not None and self._modified is not None:
            told[Ability.SET_MODIFIED] = "" if abs(found.modified - self._modified) <= STEP else "another"
        return told

    async def _set(self, session: SftpSession, real: bytes, ability: Ability) -> None:
        alone = Attributes(mode=self._mode) if ability is Ability.SET_MODE else Attributes(modified=self._modified)
        try:
            await session.set_by_path(real, alone)
        except SftpError as refusal:
            self._without[ability] = self._lacks.learn(ability, f"the server refuses it: {refusal}")
