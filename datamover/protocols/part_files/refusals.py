"""The errors of file servers with logins, for SFTP and FTP alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.refusals import Refusals
from datamover.text.quantities import count

GIVE = "have the administrator give"


@dataclass(frozen=True, slots=True)
class FileServerRefusals(Refusals):
    """The errors of the destination ``name``, logged in as ``user``, as it is used on ``side``."""

    holder: ClassVar[str] = "server"
    user: str

    def told(self, tell: Callable[[str, str], DataMoverError], plain: str, full: str) -> DataMoverError:
        """Return the error that ``tell`` makes of the server's words: ``plain`` for all, ``full`` for administrators.

        ``tell`` is called with the words and with a clause about who has to give a permission.
        """
        error = tell(plain, GIVE)
        return error.saying(error.message, full=tell(full, f"give user {self.user!r} on the server").message)

    def denied(self, path: str, why: str, do: str) -> DataMoverError:
        verb = "read" if self.side is Scope.SOURCE else "written"
        return errors.forbidden(self.side, f"{self.what(path)} may not be {verb}: {why}; {do} the permission")

    def answers(self, path: str, said: str) -> DataMoverError:
        return errors.ServerError(f"{self.what(path)}: the server answers: {said}", scope=self.side)

    def quota(self, path: str) -> DataMoverError:
        return errors.QuotaExceeded(
            f"{self.what(path)}: the quota on the server is used up; raise it or free space", scope=self.side
        )

    def ended(self, path: str, size: int, offset: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} ended after {count(offset, 'byte')}; the server told {size}", scope=self.side
        )

    def lost(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)} is not there once it is closed: the server has not kept what it took", scope=self.side
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

    def cannot_rename(self, path: str, refusal: Exception) -> DataMoverError:
        return errors.forbidden(
            self.side,
            f"{self.what(path)} cannot be placed: the server has no rename ({refusal}), and without one a file would "
            "be seen before it is whole; take a server that can rename",
        )

    def not_again(self, path: str, why: object) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be continued ({why}); it is sent from its beginning", scope=self.side
        )
