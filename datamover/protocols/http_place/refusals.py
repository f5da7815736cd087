"""What a server refuses, and how a connection to it fails, as errors that name the side and what a person can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError
from datamover.protocols.http_place.refused import Refused, Unreadable
from datamover.protocols.refusals import Refusals
from datamover.text.redaction import public_message


@dataclass(frozen=True, slots=True)
class HttpRefusals(Refusals):
    """The words for the destination ``name`` as used on ``side``; a protocol says in ``_of`` what its refusals mean."""

    holder: ClassVar[str] = "server"

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Turn what the server refuses of ``path``, and what the connection met, into an error of the side."""
        try:
            with self.connecting():
                yield
        except Refused as refusal:
            raise self.of(refusal, path) from refusal

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Turn what the connection met into an error of the side; a refusal stays one."""
        try:
            yield
        except DataMoverError as error:
            if error.message.startswith("destination "):
                raise  # It has the words of this side already.
            raise self.met(error) from error

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Turn an answer that cannot be read into an error of the side."""
        try:
            yield
        except Unreadable as error:
            raise errors.ServerError(
                f"{self.what(path)}: the {self.holder}'s answer cannot be read: {error}", scope=self.side
            ) from error

    def of(self, refusal: Refused, path: str) -> DataMoverError:
        """Return the error for a refusal. The server's own words are for administrators."""
        error = self._of(refusal, path)
        words = refusal.said.removeprefix(f"{refusal.status} ")  # The titles of many pages begin with it.
        said = f"{error.message} (the {self.holder} answers {refusal.status} {words}".rstrip()
        return error.saying(error.message, full=f"{said})")

    def met(self, error: DataMoverError) -> DataMoverError:
        """Return a connection's error as one of this side."""
        if isinstance(error, errors.SourceNotAllowedHere):
            plain = public_message(error.code, error.message)
            what = f"destination {self.name!r}: it may not be reached: {plain}"
            return errors.AuthenticationFailed(what, scope=self.side)
        return Refusals.met(self, error)

    def gone(self, path: str) -> DataMoverError:
        return errors.SizeMismatch(f"{self.what(path)}: its upload is not there any more", scope=self.side)

    def damaged(self, path: str, why: str) -> DataMoverError:
        return errors.ChecksumMismatch(f"{self.what(path)}: {why}", scope=self.side)

    def _of(self, refusal: Refused, path: str) -> DataMoverError:
        raise NotImplementedError
