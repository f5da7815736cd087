"""Mode and modification time of a file on a server: asked for, looked at; what the server does not do is learnt."""

from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.messages import Attributes, Status
from datamover.protocols.sftp.session import Session

STEP = 2
"""Seconds by which a server may keep a time less exactly than it was told."""
_LATEST = 2**32 - 1
"""POSIX seconds; SFTP has 32 bits for them (draft-ietf-secsh-filexfer-02, section 5)."""
_PERMISSIONS = 0o7777


class Metadata:
    """What one file is to have beside its bytes; ``without`` is what it then went without."""

    def __init__(self, mode: int, modified: float | None, lacks: Lacks) -> None:
        """Prepare; a time that SFTP cannot say is not exchanged for another."""
        self._lacks = lacks
        self._without: dict[Ability, Lack] = {}
        self._wanted = {Ability.SET_MODE: Attributes(mode=mode)}
        if modified is not None and not 0 <= modified <= _LATEST:
            self._without[Ability.SET_MODIFIED] = Lack(Ability.SET_MODIFIED, "SFTP has no word for a time so far away")
        elif modified is not None:
            self._wanted[Ability.SET_MODIFIED] = Attributes(modified=int(modified))

    @property
    def without(self) -> list[Lack]:
        return list(self._without.values())

    def attributes(self, size: int | None = None) -> Attributes:
        """Return all of it, to be set by one request, with a size to cut the file to."""
        time = self._wanted.get(Ability.SET_MODIFIED)
        return Attributes(size, self._wanted[Ability.SET_MODE].mode, None if time is None else time.modified)

    async def set_apart(self, session: Session, real: bytes) -> None:
        """Set each by itself, by the file's path: what was asked for in one, of an open file, was refused."""
        for ability in self._wanted:
            await self._set(session, real, ability)

    async def check(self, session: Session, real: bytes, found: Attributes) -> None:
        """Set again what is not ``found`` as it was set (some take the time of closing); take note of what stays so."""
        wrong = self._wrong(found)
        if wrong:
            for ability in wrong:
                await self._set(session, real, ability)
            found = await session.stat(real) or found
            for ability, kept in self._wrong(found).items():
                self._without[ability] = self._lacks.learn(ability, f"the server keeps {kept}")
        for ability in self._wanted:
            if ability not in self._without:
                self._lacks.saw(ability)
        # As it was made with, or as the server had it: refused it was, and wanting it is not.
        for ability, there in self._there(found).items():
            if there:
                self._without.pop(ability, None)

    def _wrong(self, found: Attributes) -> dict[Ability, str]:
        """Return what is found otherwise, and how, of what was not refused."""
        wrong = {}
        mode, time = self._wanted[Ability.SET_MODE].mode, self._wanted.get(Ability.SET_MODIFIED)
        if found.mode is not None and found.mode & _PERMISSIONS != mode:
            wrong[Ability.SET_MODE] = f"{found.mode & _PERMISSIONS:04o}, asked was {mode:04o}"
        if time is not None and found.modified is not None and abs(found.modified - (time.modified or 0)) > STEP:
            wrong[Ability.SET_MODIFIED] = "another"
        return {ability: kept for ability, kept in wrong.items() if ability not in self._without}

    def _there(self, found: Attributes) -> dict[Ability, bool]:
        """Return of each whether it is found as it was wanted."""
        mode, time = self._wanted[Ability.SET_MODE].mode, self._wanted.get(Ability.SET_MODIFIED)
        told = {Ability.SET_MODE: found.mode is not None and found.mode & _PERMISSIONS == mode}
        if time is not None and found.modified is not None:
            told[Ability.SET_MODIFIED] = abs(found.modified - (time.modified or 0)) <= STEP
        return told

    async def _set(self, session: Session, real: bytes, ability: Ability) -> None:
        try:
            await session.set_by_path(real, self._wanted[ability])
        except Status as refusal:
            self._without[ability] = self._lacks.learn(ability, f"the server refuses it: {refusal}")
