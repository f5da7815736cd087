"""The key that seals (encrypts) secrets in rows. It is in a file and never in the database.

The file's first line is the key that seals. During a rotation (``rotation``) further lines follow, of a word and a key:
``next`` is the key that will seal, ``old`` one that has sealed. All of them open (decrypt).
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from twisted.logger import Logger

from datamover.errors import StartError
from datamover.security.secret_files import Unusable, make, read

log = Logger()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one key file."""

    sealing: bytes
    next: bytes | None = None
    old: tuple[bytes, ...] = ()

    @classmethod
    def new(cls) -> "KeyRing":
        """Return a ring of one new key."""
        return cls(Fernet.generate_key())

    @classmethod
    def parse(cls, content: bytes) -> "KeyRing":
        """Read the content of a key file; raises ValueError for anything else."""
        first, *rest = content.split(b"\n")
        ring = cls(first.strip())
        for line in filter(None, map(bytes.strip, rest)):
            word, _, key = line.partition(b" ")
            if word == b"next" and ring.next is None:
                ring = replace(ring, next=key)
            elif word == b"old":
                ring = replace(ring, old=(*ring.old, key))
            else:
                raise ValueError("a line is neither next nor old")
        for key in ring.keys:
            Fernet(key)
        return ring

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that open; the first one seals."""
        return (self.sealing, *(() if self.next is None else (self.next,)), *self.old)

    def content(self) -> bytes:
        """Return the content of a key file; ``parse`` reads it."""
        lines = [
            self.sealing,
            *(() if self.next is None else (b"next " + self.next,)),
            *(b"old " + k for k in self.old),
        ]
        return b"\n".join(lines) + b"\n"

    def prepared(self) -> "KeyRing":
        """Return the ring with a ``next`` key, made if there is none."""
        return self if self.next is not None else replace(self, next=Fernet.generate_key())

    def turned(self) -> "KeyRing":
        """Return the ring in which the ``next`` key seals and the one before is ``old``; itself if there is no next."""
        if self.next is None:
            return self
        return KeyRing(self.next, None, (self.sealing, *self.old))


class Cipher:
    """Seals and opens text with the keys of one file (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, ring: KeyRing, path: Path) -> None:
        self.ring = ring
        self._path = path
        self._sealing = Fernet(ring.sealing)
        self._opening = MultiFernet([Fernet(key) for key in ring.keys])

    @classmethod
    def from_file(cls, path: Path) -> "Cipher":
        """Read the key file, or make it if there is none; processes that do so at the same time agree on one.

        Raises StartError for a file that is no key file, that other users may read, or that cannot be read or made.
        """
        try:
            if not path.exists():
                make(path, KeyRing.new().content())
            content = read(path)
        except OSError as error:
            raise StartError(f"service.key_file: {error.filename or path}: {error.strerror}") from None
        except Unusable as error:
            raise StartError(f"service.key_file: {error.reason}") from None
        try:
            return cls(KeyRing.parse(content), path)
        except ValueError:
            raise StartError(
                f"service.key_file: {path} is not a key: restore it from a backup, or name another file"
            ) from None

    def seal(self, text: str) -> bytes:
        return self._sealing.encrypt(text.encode())

    def current(self, sealed: bytes) -> bool:
        """Return whether something was sealed with the key that seals now."""
        try:
            self._sealing.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def opens(self, sealed: bytes) -> bool:
        """Return whether one of the keys opens what was sealed."""
        try:
            self._opening.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def open(self, sealed: bytes) -> str:
        """Return the text that was sealed. Raises StartError if none of the keys opens it."""
        try:
            return self._opening.decrypt(sealed).decode()
        except InvalidToken:
            raise StartError(
                f"service.key_file: {self._path} is not the key that the database's rows were sealed with: "
                "every node needs the same file"
            ) from None


class KeyFile:
    """The key file, read (or made) when it is first needed, and read again when it changes.

    It is not read before that, since the process may still run as root until then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher: Cipher | None = None
        self._seen: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Read the key file, or make it; raises StartError like ``Cipher.from_file``."""
        self._current()

    def seal(self, text: str) -> bytes:
        return self._current().seal(text)

    def open(self, sealed: bytes) -> str:
        return self._current().open(sealed)

    def _current(self) -> Cipher:
        seen = self._look()
        if self._cipher is None or (seen is not None and seen != self._seen):
            try:
                self._cipher = Cipher.from_file(self._path)
            except StartError as error:
                if self._cipher is None:
                    raise
                log.warn(
                    "the changed key file is not used, and the keys stay as they were: {error}", error=error.message
                )
            self._seen = seen or self._look()
        return self._cipher

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
