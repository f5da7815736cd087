"""What is asked of the service, logged in, in the words of one side."""

import posixpath
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.base import Inspection
from datamover.protocols.refusals import Refusals
from tests.protocols.toy.store import Object, ObjectStore, Refused

LogIn = Callable[[Scope], Awaitable[None]]


class ToyRefusals(Refusals):
    """The words for what the service refuses."""

    holder = "store"

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Turn what the service refuses of ``path`` into an error of the side."""
        try:
            yield
        except Refused as refusal:
            raise self._of(refusal, path) from refusal

    def missing(self, path: str) -> DataMoverError:
        return errors.missing(self.side, f"{self.what(path)} does not exist")

    def directory(self, path: str) -> DataMoverError:
        return self.unusable(path, "is a directory where a file is needed; name a file")

    def _of(self, refusal: Refused, path: str) -> DataMoverError:
        if refusal.code == "NoSuchKey":
            return self.missing(path)
        if refusal.code == "PreconditionFailed":
            return self.exists(path)
        if refusal.code == "NoSuchUpload":
            return errors.SizeMismatch(f"{self.what(path)}: its upload is not there any more", scope=self.side)
        return errors.ServerError(f"{self.what(path)}: the store answers: {refusal}", scope=self.side)


class ToyClient:
    """One prefix of a bucket, as seen from one side."""

    def __init__(self, store: ObjectStore, prefix: str, refusals: ToyRefusals, log_in: LogIn) -> None:
        self._store = store
        self._prefix = prefix
        self._log_in = log_in
        self.refusals = refusals

    def key(self, path: str) -> str:
        """Return the key of a path."""
        return posixpath.join(self._prefix, path) if path else self._prefix

    async def ask(self) -> ObjectStore:
        """Return the service, once it has let us in."""
        await self._log_in(self.refusals.side)
        return self._store

    async def inspect(self, path: str) -> Inspection | None:
        """Look at an object, or at the keys below it; None where there is nothing."""
        store, key, name = await self.ask(), self.key(path), posixpath.basename(path)
        found = await store.head(key)
        if found is not None:
            return Inspection(name, len(found.data), identity(found), found.modified, {"sha256": found.digest})
        if not path or await store.list_objects(f"{key}/"):
            return Inspection(name, directory=True)
        return None

    async def look(self, path: str) -> Inspection:
        """Look at what must be there."""
        found = await self.inspect(path)
        if found is None:
            raise self.refusals.missing(path)
        return found


def identity(found: Object) -> str:
    """Return what changes with an object."""
    return f"{found.digest} {found.modified}"
