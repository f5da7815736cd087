"""What a file server refuses, and what befalls its connection, as errors of the family: whose side, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import Status
from datamover.text.redaction import public_message, safe_words

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Refusals:
    """The words for the destination ``name``, logged in as ``user``, as used on ``side``."""

    name: str
    user: str
    side: Scope

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Turn what the server refuses of ``path``, and what the connection met, into an error of the side."""
        try:
            yield
        except Status as refusal:
            raise self.of(refusal, path) from refusal
        except DataMoverError as error:
            if error.scope is not Scope.TRANSFER:
                raise
            raise self.met(error) from error

    def met(self, error: DataMoverError) -> DataMoverError:
        """Return what befell the connection, which knows no sides, as this side's."""
        what, plain = f"destination {self.name!r}", public_message(error.code, error.message)
        return error.saying(f"{what}: {plain}", scope=self.side, full=f"{what}: {error.full}")

    def what(self, path: str) -> str:
        shown = path if len(path) <= _SHOWN else path[: _SHOWN - 1] + "…"
        return f"destination {self.name!r}: {shown!r}"

    def of(self, refusal: Status, path: str) -> DataMoverError:
        code = f"status {refusal.code}"
        full = self._of(refusal, path, refusal.words or code, f"give user {self.user!r} on the server")
        plain = self._of(refusal, path, safe_words(refusal.words) or code, "have the administrator give")
        return plain.saying(plain.message, full=full.message)

    def _of(self, refusal: Status, path: str, said: str, give: str) -> DataMoverError:
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

    def outside(self, path: str) -> DataMoverError:
        return errors.PathNotAllowedHere(
            f"{self.what(path)} leads out of the destination's root, through a symbolic link", scope=self.side
        )

    def unusable(self, path: str, why: str) -> DataMoverError:
        kind = errors.SourceForbidden if self.side is Scope.SOURCE else errors.DestinationInvalid
        return kind(f"{self.what(path)} {why}")

    def changed(self, path: str) -> DataMoverError:
        return errors.SourceChanged(f"{self.what(path)} changed while it was read", scope=self.side)

    def ended(self, path: str, size: int, offset: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} ended after {offset} bytes; the server told {size}", scope=self.side
        )

    def lost(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there once it is closed: the server has not kept what it took",
            scope=self.side,
        )

    def vanished(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there, though the server said OK to its name; look at the server",
            scope=self.side,
        )

    def not_renamed(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} was not placed: the server said OK to the rename, and the part file has its old name "
            "still; look at the server",
            scope=self.side,
        )

    def other_size(self, path: str, where: str, held: int | None, sent: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} holds {held} bytes {where}, {sent} were written: the server has not kept what it took; "
            "look at its space and quota",
            scope=self.side,
        )

    def untold(self, path: str, error: DataMoverError) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: the server tells no size of what arrived, and it cannot be read to be counted: "
            f"{error.message}",
            scope=self.side,
        )

    def cannot_rename(self, path: str, refusal: Status) -> DataMoverError:
        return errors.forbidden(
            self.side,
            f"{self.what(path)} cannot be placed: the server has no rename ({refusal}), and without one a file would "
            "be seen before it is whole; take a server that can rename",
        )

    def not_again(self, path: str, refusal: Status) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be written on, for the server opens no file for that ({refusal}); it is written "
            "anew",
            scope=self.side,
        )

    def short(self, path: str, size: int, offset: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} holds {size} bytes and cannot be written on from byte {offset}", scope=self.side
        )

    def exists(self, path: str) -> DataMoverError:
        return errors.DestinationExists(f"{self.what(path)} exists and may not be replaced", scope=self.side)
