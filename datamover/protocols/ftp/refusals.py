"""What an FTP server refuses, and what befalls its connections, as errors of the family: whose side, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.ftp.client.control import UnusableName
from datamover.protocols.ftp.client.replies import FtpRefusal, encode
from datamover.protocols.refusals import Refusals
from datamover.text.quantities import count
from datamover.text.redaction import public_message

_LONGEST = 255
"""Bytes of one name, on most file systems (NAME_MAX)."""
_FULL = ("no space", "disk full", "enospc", "insufficient storage", "not enough space", "insufficient disk")
_DENIED = ("permission", "denied", "not allowed", "forbidden", "not permitted", "privilege", "read-only", "read only")
_STAYS = ("permission denied", "read-only", "read only")
"""Of a refusal that is told as passing, and is not."""
_UNWRITTEN = ("failure writing to local file",)
"""What vsftpd says of a full disk, and of any other trouble with it."""
_NO_NAME = ("invalid directory name", "invalid file name", "invalid filename", "invalid path", "illegal name")
_MISSING = ("no such file", "not exist", "not found", "cannot find", "not a directory")
_TLS = (521, 522, 533, 534, 535, 536, 537)
"""RFC 4217 and RFC 2228; vsftpd says 522 of data that does not go on with the control connection's session."""


class Missing(Exception):
    """Nothing has the name, or one of the directories before it."""


@dataclass(frozen=True, slots=True)
class FtpRefusals(Refusals):
    """The words for the destination ``name``, logged in as ``user``, as used on ``side``."""

    holder: ClassVar[str] = "server"
    user: str

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Turn what the server refuses of ``path``, and what the connection met, into an error of the side."""
        try:
            yield
        except Missing:
            raise self.missing(path) from None
        except UnusableName:
            raise self.unusable(path, "holds a line break or NUL, which FTP cannot carry; rename it") from None
        except FtpRefusal as refusal:
            raise self.of(refusal, path) from refusal
        except DataMoverError as error:
            if error.message.startswith("destination "):
                raise  # It has the words of this side already.
            raise self.met(error) from error

    def met(self, error: DataMoverError) -> DataMoverError:
        """Return what befell the connection, which knows no sides, as this side's."""
        what, plain = f"destination {self.name!r}", public_message(error.code, error.message)
        return error.saying(f"{what}: {plain}", scope=self.side, full=f"{what}: {error.full}")

    def of(self, refusal: FtpRefusal, path: str) -> DataMoverError:
        """Return the error for a refusal. Words that may hold a path are for administrators."""
        full = self._of(
            refusal, path, f"{refusal.code} {refusal.reply.words}", f"give user {self.user!r} on the server"
        )
        plain = self._of(refusal, path, str(refusal), _GIVE)
        return plain.saying(plain.message, full=full.message)

    def _of(self, refusal: FtpRefusal, path: str, said: str, give: str) -> DataMoverError:
        """Return the error, which quotes ``said`` and tells who has to ``give`` a permission."""
        what, code, words, side = self.what(path), refusal.code, refusal.meaning, self.side
        here = f"destination {self.name!r}"
        if code == 530 or code == 532:
            return errors.AuthenticationFailed(f"{here}: the server wants a login again: {said}", scope=side)
        if code in _TLS:
            return errors.TLSFailed(f"{here}: the server refuses how the data is protected: {said}", scope=side)
        if "quota" in words:
            return errors.QuotaExceeded(f"{what}: the quota is used up; raise it or free space", scope=side)
        if code == 452 or is_full(words):
            return self.full(path)
        if any(each in words for each in _UNWRITTEN):
            return errors.NoSpace(
                f"{what}: the server cannot write it to its disk, which may be full: {said}; free space there",
                scope=side,
            )
        if code == 552:
            return errors.QuotaExceeded(f"{what}: the space that the account may use is used up: {said}", scope=side)
        if code == 425:
            return errors.ConnectFailed(f"{here}: the server cannot open the data connection: {said}", scope=side)
        if code in (421, 426):
            return errors.ConnectionLost(f"{what}: the server ended the transfer: {said}", scope=side)
        if refusal.unsupported:
            verb = refusal.command.partition(" ")[0]
            return errors.ServerError(f"{what}: the server does not do {verb}: {said}", scope=side, retryable=False)
        if code < 500 and not any(each in words for each in _STAYS):
            return errors.ServerError(f"{what}: the server answers: {said}", scope=side)
        if self.too_long(path) or any(each in words for each in _NO_NAME):
            return self._no_name(path, said)
        if any(each in words for each in _MISSING):
            return self.missing(path)
        verb = "read" if side is Scope.SOURCE else "written"
        if code == 553 and not any(each in words for each in _DENIED):
            return errors.forbidden(
                side, f"{what} may not be {verb}: {said}; take another name, or {give} the permission"
            )
        return errors.forbidden(side, f"{what} may not be {verb}: {said}; {give} the permission")

    def _no_name(self, path: str, said: str) -> DataMoverError:
        what = "shorten it" if self.too_long(path) else "take another"
        return errors.missing(self.side, f"{self.what(path)} has a name that the server does not take ({said}); {what}")

    def missing(self, path: str) -> DataMoverError:
        return errors.missing(self.side, f"{self.what(path)} does not exist")

    def directory(self, path: str) -> DataMoverError:
        return self.unusable(path, "is a directory where a file is needed; name a file")

    def closed(self, path: str) -> DataMoverError:
        """Return the error for a directory that is there, and that the login may not enter."""
        verb = "read" if self.side is Scope.SOURCE else "written"
        return errors.forbidden(
            self.side, f"{self.what(path)} may not be {verb}: its directory may not be entered; {_GIVE} the permission"
        )

    def too_long(self, path: str) -> bool:
        return any(len(encode(name)) > _LONGEST for name in path.split("/"))

    def full(self, path: str) -> DataMoverError:
        return errors.NoSpace(f"{self.what(path)}: no space is left on the server; free some", scope=self.side)

    def ended(self, path: str, size: int, offset: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} ended after {count(offset, 'byte')}; the server told {size}", scope=self.side
        )

    def broken_off(self, path: str, offset: int, refusal: FtpRefusal) -> DataMoverError:
        told = f"{self.what(path)}: the server ended the transfer after {count(offset, 'byte')}"
        full = f"{told}: {refusal.code} {refusal.reply.words}"
        return errors.ServerError(f"{told}: {refusal}", scope=self.side, full=full)

    def unsure(self, path: str, offset: int, trouble: str) -> DataMoverError:
        return errors.ConnectionLost(
            f"{self.what(path)}: after {count(offset, 'byte')} the data connection ended, and nobody knows whether "
            f"that is all: {trouble}",
            scope=self.side,
        )

    def broke(self, path: str, offset: int) -> DataMoverError:
        return errors.ConnectionLost(
            f"{self.what(path)}: the server closed the data connection after {count(offset, 'byte')}, and does not say "
            "why; look whether its disk is full",
            scope=self.side,
        )

    def lost(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there once it is sent: the server has not kept what it took", scope=self.side
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

    def cannot_rename(self, path: str, said: str) -> DataMoverError:
        return errors.forbidden(
            self.side,
            f"{self.what(path)} cannot be placed: the server has no rename ({said}), and without one a file would be "
            "seen before it is whole; take a server that can rename",
        )

    def not_again(self, path: str, why: str) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be written on ({why}); it is written anew", scope=self.side
        )


def is_full(words: str) -> bool:
    """Tell whether a server says in words that its disk is full."""
    return any(each in words.lower() for each in _FULL)


_GIVE = "have the administrator give"
