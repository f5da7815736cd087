"""The errors of local disks: each names the side and says what a person can do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.local.beneath import OutsideRoot
from datamover.protocols.local.descriptors import NotOwn
from datamover.protocols.refusals import Refusals

_UNUSABLE = {
    errno.EISDIR: "is a directory where a file is needed; name a file",
    errno.ENOTEMPTY: "is a directory where a file is needed; name a file",
    errno.ENXIO: "is not a regular file; remove it or take another name",
    errno.EXDEV: "lies on another file system than its part file; make the mount a destination of its own",
    errno.ELOOP: "leads through too many symbolic links; correct the links",
    errno.EINVAL: "is refused by the disk (Invalid argument): it may be a name that it does not take",
    errno.EILSEQ: "is a name that the disk does not take; choose another",
    errno.EFBIG: "would be larger than its file system allows",
}


@dataclass(frozen=True, slots=True)
class DiskRefusals(Refusals):
    """The errors of the destination ``name`` as it is used on ``side``."""

    holder: ClassVar[str] = "disk"

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Raise the disk's errors about ``path`` as errors of the family."""
        try:
            yield
        except (OutsideRoot, NotOwn) as error:
            raise self.meaning(error, path) from None
        except OSError as error:
            raise self.meaning(error, path) from error

    def meaning(self, error: Exception, path: str) -> Exception:
        """Return what an error that was met at ``path`` means: itself, if it is not the disk's."""
        if isinstance(error, OutsideRoot):
            return self.outside(path)
        if isinstance(error, NotOwn):
            return self.taken(path, os.fsdecode(error.name), error.owner)
        return self.of(error, path) if isinstance(error, OSError) else error

    def of(self, error: OSError, path: str) -> DataMoverError:
        what, code = self.what(path), error.errno
        reason = os.strerror(code) if code else "it tells no reason"
        if code == errno.ENOENT:
            return self.missing(path)
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            said = f"{what} may not be {'read' if self.side is Scope.SOURCE else 'written'}: {reason}"
            plain = errors.forbidden(self.side, f"{said}; have the administrator give the permission")
            return plain.saying(plain.message, full=f"{said}; give user id {os.geteuid()} the permission")
        if code == errno.ENOSPC:
            return self.full(path)
        if code == errno.EDQUOT:
            return errors.QuotaExceeded(f"{what}: the disk quota is used up; raise it or free space", scope=self.side)
        if code == errno.ENOTDIR:
            return errors.missing(self.side, f"{what} leads through a file where a directory is needed")
        if code == errno.ENAMETOOLONG:
            return errors.missing(self.side, f"{what} has a name that is too long for the disk; shorten it")
        if code in _UNUSABLE:
            return self.unusable(path, _UNUSABLE[code])
        return errors.ServerError(f"{what}: the disk answers: {reason}", scope=self.side)

    def not_again(self, path: str) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be continued: the disk opens no file for that; it is written from its beginning",
            scope=self.side,
        )

    def not_own(self, path: str, owner: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} is not continued: it is a file of user id {owner}, or one that others can read; "
            "it is written from its beginning",
            scope=self.side,
        )

    def taken(self, path: str, part: str, owner: int) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: the name of its part file, {part!r}, is that of something of user id {owner}, which "
            "is not written on: remove it",
            scope=self.side,
        )

    def vanished(self, path: str, where: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there {where}, though the disk said that it is: check the disk",
            scope=self.side,
        )

    def not_renamed(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} was not replaced, though the disk said that it was: check the disk", scope=self.side
        )
