"""The errors of FTP servers: each names the side and says what a person can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.ftp.client.control import UnusableName
from datamover.protocols.ftp.client.replies import FtpRefusal, encode
from datamover.protocols.part_files.refusals import GIVE, FileServerRefusals
from datamover.text.quantities import count

_LONGEST = 255
"""Bytes of one name, on most file systems (NAME_MAX)."""
_FULL = ("no space", "disk full", "enospc", "insufficient storage", "not enough space", "insufficient disk")
_DENIED = ("permission", "denied", "not allowed", "forbidden", "not permitted", "privilege", "read-only", "read only")
_STAYS = ("permission denied", "read-only", "read only")
"""Of a refusal that is told as passing, and is not."""
_UNWRITTEN = ("failure writing to local file", "input/output error")
"""What vsftpd and ProFTPD say of a full disk, and of any other trouble with it."""
_NO_NAME = (
    "invalid directory name",
    "invalid file name",
    "invalid filename",
    "invalid path",
    "illegal name",
    "name too long",
)
_MISSING = ("no such file", "not exist", "not found", "cannot find", "not a directory")
_TLS = (521, 522, 533, 534, 535, 536, 537)
"""RFC 4217 and RFC 2228; vsftpd says 522 of data that does not go on with the control connection's session."""


class Missing(Exception):
    """A file, or a directory in its path, does not exist."""


@dataclass(frozen=True, slots=True)
class FtpRefusals(FileServerRefusals):
    """The errors of the destination ``name``, logged in as ``user``, as it is used on ``side``."""

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Raise the server's refusals about ``path``, and errors of the connection, as errors of the side."""
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
                raise  # It is an error of this side already.
            raise self.met(error) from error

    def of(self, refusal: FtpRefusal, path: str) -> DataMoverError:
        """Return the error for a refusal. Words that may hold a path are for administrators."""
        full = f"{refusal.code} {refusal.reply.words}".rstrip(".")
        return self.told(partial(self._of, refusal, path), str(refusal).rstrip("."), full)

    def _of(self, refusal: FtpRefusal, path: str, said: str, give: str) -> DataMoverError:
        """Return the error, which quotes ``said`` and says who has to ``give`` a permission."""
        what, code, words, side = self.what(path), refusal.code, refusal.meaning, self.side
        here = f"destination {self.name!r}"
        if code == 530 or code == 532:
            return errors.AuthenticationFailed(f"{here}: the server wants a login again: {said}", scope=side)
        if code in _TLS:
            return errors.TLSFailed(f"{here}: the server refuses how the data is protected: {said}", scope=side)
        if "quota" in words:
            return self.quota(path)
        if code == 452 or any(each in words for each in _FULL):
            return self.full(path)
        if side is Scope.DESTINATION and any(each in words for each in _UNWRITTEN):
            return errors.NoSpace(
                f"{what}: the server cannot write it to its disk, which may be full: {said}; free space there",
                scope=side,
            )
        if code == 552:
            return errors.QuotaExceeded(f"{what}: the space that the account may use is used up: {said}", scope=side)
        if code == 425:
            return errors.ConnectFailed(f"{here}: the server cannot open the data connection: {said}", scope=side)
        if code in (421, 426):
            look = "; look whether its disk is full" if code == 426 and side is Scope.DESTINATION else ""
            return errors.ConnectionLost(f"{what}: the server ended the transfer: {said}{look}", scope=side)
        if refusal.unsupported:
            verb = refusal.command.partition(" ")[0]
            return errors.ServerError(f"{what}: the server does not do {verb}: {said}", scope=side, retryable=False)
        if self.too_long(path) or any(each in words for each in _NO_NAME):
            return self.no_name(path, said)
        if code < 500 and not any(each in words for each in _STAYS):
            return self.answers(path, said)
        if any(each in words for each in _MISSING):
            return self.missing(path)
        if code == 553 and not any(each in words for each in _DENIED):
            give = f"take another name, or {give}"
        return self.denied(path, said, give)

    def no_name(self, path: str, said: str) -> DataMoverError:
        what = "shorten it" if self.too_long(path) else "take another"
        return errors.missing(self.side, f"{self.what(path)} has a name that the server does not take ({said}); {what}")

    def closed(self, path: str) -> DataMoverError:
        """Return the error for a directory that the login may not enter."""
        return self.denied(path, "its directory may not be entered", GIVE)

    def too_long(self, path: str) -> bool:
        return any(len(encode(name)) > _LONGEST for name in path.split("/"))

    def broken_off(self, path: str, offset: int, refusal: FtpRefusal) -> DataMoverError:
        told = f"{self.what(path)}: the server ended the transfer after {count(offset, 'byte')}"
        full = f"{told}: {refusal.code} {refusal.reply.words}"
        return errors.ServerError(f"{told}: {refusal}", scope=self.side, full=full)

    def unsure(self, path: str, offset: int, trouble: str) -> DataMoverError:
        return errors.ConnectionLost(
            f"{self.what(path)}: after {count(offset, 'byte')} the data connection ended, and it is unknown whether "
            f"that is all: {trouble}",
            scope=self.side,
        )

    def broke(self, path: str, offset: int) -> DataMoverError:
        return errors.ConnectionLost(
            f"{self.what(path)}: the server closed the data connection after {count(offset, 'byte')}, and does not say "
            "why; look whether its disk is full",
            scope=self.side,
        )


def stops_any(refusal: FtpRefusal) -> bool:
    """Tell whether an upload is refused for a reason other than that it continues a file."""
    if refusal.code in (421, 425, 426, 452, 530, 552):
        return True
    return any(each in refusal.meaning for each in (*_FULL, *_UNWRITTEN, "quota"))
