"""The errors of destinations that are reached by HTTP: each names the side and says what a person can do."""

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
    """The errors of the destination ``name`` as it is used on ``side``; a protocol implements ``_of``."""

    holder: ClassVar[str] = "server"

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Raise the server's refusals about ``path``, and errors of the connection, as errors of the side."""
        try:
            with self.connecting():
                yield
        except Refused as refusal:
            raise self.of(refusal, path) from refusal

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Raise errors of the connection as errors of the side; ``Refused`` passes."""
        try:
            yield
        except DataMoverError as error:
            if error.message.startswith("destination "):
                raise  # It is an error of this side already.
            raise self.met(error) from error

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Raise ``Unreadable`` as an error of the side."""
        try:
            yield
        except Unreadable as error:
            raise errors.ServerError(
                f"{self.what(path)}: the {self.holder}'s answer cannot be read: {error}", scope=self.side
            ) from error

    def of(self, refusal: Refused, path: str) -> DataMoverError:
        """Return the error for a refusal. The server's own words are for administrators."""
        error = self._of(refusal, path)
        if error.retryable and error.retry_after is None:
            error.retry_after = refusal.retry_after
        words = refusal.said.removeprefix(f"{refusal.status} ")  # The titles of many pages begin with it.
        said = f"{error.message} (the {self.holder} answers {refusal.status} {words}".rstrip()
        return error.saying(error.message, full=f"{said})")

    def met(self, error: DataMoverError) -> DataMoverError:
        """Return a connection's error as one of this side."""
        if isinstance(error, errors.SourceNotAllowedHere):
            plain = public_message(error.code, error.message)
            what = f"destination {self.name!r}: it may not be reached: {plain}"
            return errors.AuthenticationFailed(what, scope=self.side)
        if isinstance(error, errors.DatasetInvalid):  # What ``http.content.whole`` raises.
            return errors.ServerError(
                f"destination {self.name!r}: the {self.holder}'s answer is too long; check its address",
                scope=self.side,
                full=f"destination {self.name!r}: {error.full}, more than a {self.holder} sends; check its address",
                retryable=False,
            )
        return Refusals.met(self, error)

    def withheld(self, path: str, refusal: Refused) -> DataMoverError:
        """Return the error for a file that exists by PROPFIND or HEAD, and not by GET."""
        return errors.ServerError(
            f"{self.what(path)} is there, but the {self.holder} does not give it out ({refusal.status}): have its "
            "administrator look why; IIS does so with endings that it has no MIME type for, and filters some names",
            scope=self.side,
        )

    def gone(self, path: str) -> DataMoverError:
        return errors.SizeMismatch(f"{self.what(path)}: its upload is not there any more", scope=self.side)

    def foreign(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: what answers there is no object store, for it tells neither ETag nor time; "
            "look at its address, and for a proxy before it",
            scope=self.side,
        )

    def part(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: the {self.holder} answers with a part of it although all of it was asked for (206, or "
            "a header Content-Range); have its administrator look why",
            scope=self.side,
        )

    def coded(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: what arrives is compressed, and is not what is stored: a proxy before the "
            f"{self.holder} compresses it unasked; have that changed",
            scope=self.side,
            retryable=False,
        )

    def damaged(self, path: str, why: str) -> DataMoverError:
        return errors.ChecksumMismatch(f"{self.what(path)}: {why}", scope=self.side)

    def _of(self, refusal: Refused, path: str) -> DataMoverError:
        raise NotImplementedError
