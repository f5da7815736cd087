"""The errors that all protocols have in common: each names the side and says what a person can do."""

from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.text.quantities import count
from datamover.text.redaction import public_message

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Refusals:
    """The errors of the destination ``name`` as it is used on ``side``."""

    holder: ClassVar[str]
    """What stores the files, such as "disk"."""

    name: str
    side: Scope

    def what(self, path: str) -> str:
        if not path:
            return f"destination {self.name!r}: its root"
        shown = path if len(path) <= _SHOWN else path[: _SHOWN - 1] + "…"
        return f"destination {self.name!r}: {shown!r}"

    def met(self, error: DataMoverError) -> DataMoverError:
        """Return a connection's error, which has no side, as an error of this side."""
        what, plain = f"destination {self.name!r}", public_message(error.code, error.message)
        return error.saying(f"{what}: {plain}", scope=self.side, full=f"{what}: {error.full}")

    def consequence(self, path: str, consequence: str, error: DataMoverError) -> DataMoverError:
        """Return an error of this side that says first what follows for the file at ``path``, as a clause."""
        what, here = f"{self.what(path)} {consequence}", f"destination {self.name!r}: "
        message, full = (f"{what}: {told.removeprefix(here)}" for told in (error.message, error.full))
        return error.saying(message, full=full)

    def missing(self, path: str) -> DataMoverError:
        return errors.missing(self.side, f"{self.what(path)} does not exist")

    def directory(self, path: str) -> DataMoverError:
        return self.unusable(path, "is a directory where a file is needed; name a file")

    def special(self, path: str) -> DataMoverError:
        return self.unusable(path, "is not a regular file; remove it or take another name")

    def file_in_the_way(self, path: str) -> DataMoverError:
        return self.unusable(path, "leads through a file where a directory is needed; remove it or take another path")

    def undirected(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: its directory was removed while it was written; it is made again", scope=self.side
        )

    def full(self, path: str) -> DataMoverError:
        return errors.NoSpace(f"{self.what(path)}: no space is left on the {self.holder}; free some", scope=self.side)

    def outside(self, path: str) -> DataMoverError:
        return errors.PathNotAllowedHere(
            f"{self.what(path)} leads out of the destination's root, through a symbolic link", scope=self.side
        )

    def unusable(self, path: str, why: str) -> DataMoverError:
        kind = errors.SourceForbidden if self.side is Scope.SOURCE else errors.DestinationInvalid
        return kind(f"{self.what(path)} {why}")

    def changed(self, path: str) -> DataMoverError:
        return errors.SourceChanged(f"{self.what(path)} changed while it was read", scope=self.side)

    def short(self, path: str, size: int, offset: int) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be continued from byte {offset}: its part file holds {count(size, 'byte')}",
            scope=self.side,
        )

    def other_size(self, path: str, where: str, held: int | None, sent: int) -> DataMoverError:
        holds = "nothing" if held is None else count(held, "byte")
        return errors.SizeMismatch(
            f"{self.what(path)} holds {holds} {where}, {sent} were written: the {self.holder} has not kept what "
            "it took; check its space and quota",
            scope=self.side,
        )

    def overtaken(self, path: str) -> DataMoverError:
        return errors.DestinationExists(
            f"{self.what(path)} was written by somebody else meanwhile: it is compared again",
            scope=self.side,
            retryable=True,
        )

    def exists(self, path: str) -> DataMoverError:
        return errors.DestinationExists(f"{self.what(path)} exists and may not be replaced", scope=self.side)
