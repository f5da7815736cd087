"""What a file server refuses, and how its connection fails, as errors that name the side and what a person can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.refusals import Refusals
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import SftpError
from datamover.text.quantities import count
from datamover.text.redaction import public_message, safe_words


@dataclass(frozen=True, slots=True)
class ServerRefusals(Refusals):
    """The words for the destination ``name``, logged in as ``user``, as used on ``side``."""

    holder: ClassVar[str] = "server"
    user: str

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Turn what the server refuses of ``path``, and what the connection met, into an error of the side."""
        try:
            yield
        except SftpError as refusal:
            raise self.of(refusal, path) from refusal
        except DataMoverError as error:
            if error.scope is not Scope.TRANSFER:
                raise
            raise self.met(error) from error

    def met(self, error: DataMoverError) -> DataMoverError:
        """Return a connection's error, which has no side, as one of this side."""
        what, plain = f"destination {self.name!r}", public_message(error.code, error.message)
        return error.saying(f"{what}: {plain}", scope=self.side, full=f"{what}: {error.full}")

    def of(self, refusal: SftpError, path: str) -> DataMoverError:
        code = f"status {refusal.code}"
        full = self._of(refusal, path, refusal.words or code, f"give user {self.user!r} on the server")
        plain = self._of(refusal, path, safe_words(refusal.words) or code, "have the administrator give")
        return plain.saying(plain.message, full=full.message)

    def _of(self, refusal: SftpError, path: str, said: str, give: str) -> DataMoverError:
        """Return the error, which quotes ``said`` and tells who has to ``give`` a permission."""
        what, code, words = self.what(path), refusal.code, refusal.words.lower()
        if code == messages.NO_SUCH_FILE:
            return errors.missing(self.side, f"{what} does not exist")
        if code in (messages.PERMISSION_DENIED, messages.WRITE_PROTECT):
            verb = "read" if self.side is Scope.SOURCE else "written"
            return errors.forbidden(self.side, f"{what} may not be {verb}: {said}; {give} the permission")
        if code == messages.NO_SPACE or "no space" in words:
            return self.full(path)
        if code == messages.QUOTA or "quota" in words:
            return errors.QuotaExceeded(
                f"{what}: the quota on the server is used up; raise it or free space", scope=self.side
            )
        if code == messages.BAD_MESSAGE:
            return errors.missing(self.side, f"{what} is a name that the server does not take ({said}); shorten it")
        return errors.ServerError(f"{what}: the server answers: {said}", scope=self.side)

    def full(self, path: str) -> DataMoverError:
        return errors.NoSpace(f"{self.what(path)}: no space is left on the server; free some", scope=self.side)

    def ended(self, path: str, size: int, offset: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} ended after {count(offset, 'byte')}; the server told {size}", scope=self.side
        )

    def lost(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there once it is closed: the server has not kept what it took",
            scope=self.side,
        )

    def vanished(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there, though the server said OK to its name; check the server",
            scope=self.side,
        )

    def not_renamed(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} was not placed: the server said OK to the rename, and the part file has its old name "
            "still; check the server",
            scope=self.side,
        )

    def untold(self, path: str, error: DataMoverError) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: the server tells no size of what arrived, and it cannot be read to be counted: "
            f"{error.message}",
            scope=self.side,
        )

    def cannot_rename(self, path: str, refusal: SftpError) -> DataMoverError:
        return errors.forbidden(
            self.side,
            f"{self.what(path)} cannot be placed: the server has no rename ({refusal}), and without one a file would "
            "be seen before it is whole; take a server that can rename",
        )

    def not_again(self, path: str, refusal: SftpError) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be continued: the server opens no file for that ({refusal}); it is sent from "
            "its beginning",
            scope=self.side,
        )
