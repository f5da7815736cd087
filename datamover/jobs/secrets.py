"""What rows must keep secret: sealed with the service's key, which is a file and never in the database."""

import os
import stat
import tempfile
from functools import cached_property
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from datamover.errors import StartError


class Cipher:
    """Seals text with the key of one file (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, fernet: Fernet, path: Path) -> None:
        self._fernet = fernet
        self._path = path

    @classmethod
    def from_file(cls, path: Path) -> "Cipher":
        """Read the key, or make it where there is none; several processes that start at once agree on one.

        Raises StartError for a file that is not a key, that others may read, or that cannot be read or made.
        """
        try:
            if not path.exists():
                _make(path)
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                content = file.read(1024)
        except OSError as error:
            raise StartError(f"service.key_file: {path}: {error.strerror}") from None
        if mode & 0o077:
            raise StartError(
                f"service.key_file: {path} has permissions {mode:04o}, so others may read it: run chmod 0600 {path}"
            )
        try:
            return cls(Fernet(content.strip()), path)
        except ValueError:
            raise StartError(
                f"service.key_file: {path} is not a key: restore it from a backup, or name another file"
            ) from None

    def seal(self, text: str) -> bytes:
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """Return what was sealed. Raises StartError for what another key sealed."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise StartError(
                f"service.key_file: {self._path} is not the key that the database's rows were sealed with: "
                "every node needs the same file"
            ) from None


def _make(path: Path) -> None:
    """Write a new key, whole or not at all, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        os.unlink(temporary)


class KeyFile:
    """The key that rows are sealed with, read (or made) when it is first needed: by then as the service's own user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _cipher(self) -> Cipher:
        return Cipher.from_file(self._path)

    def seal(self, text: str) -> bytes:
        return self._cipher.seal(text)

    def open(self, sealed: bytes) -> str:
        return self._cipher.open(sealed)
