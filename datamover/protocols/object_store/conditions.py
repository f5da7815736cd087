"""Whether the service makes an object only where none is, and removes only the one that is named.

It is tried on an object of no bytes, which is removed at once, and remembered. Objects that processes left which died
meanwhile are removed later.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError, DestinationForbidden
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.seam import NO_CONDITION, FoundObject, ObjectStore
from datamover.protocols.object_store.trials import BEGINNING, OLD, is_left, is_trial, new_trial
from datamover.protocols.upload import Check, unchecked

_ONLY_NEW = {"If-None-Match": "*"}
_ONLY_ANOTHER = {"If-Match": f'"{"0" * 32}"'}
"""What no object has as its ETag."""

Make = Callable[[Mapping[str, str]], Awaitable[None]]
"""Makes an object, with these headers; raises Refused."""


class Conditions:
    """What is known of one service."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """``seconds`` is a clock that nobody can set."""
        self.honoured: bool | None = None
        """Whether a PUT is refused where something is; None: it is not known."""
        self.removes = False
        """Whether a DELETE is known to be refused where something else is than it names."""
        self._seconds = seconds
        self._tried: float | None = None
        self._tidied: float | None = None
        """When that was done last, by ``seconds``."""
        self._trying = False
        self._learnt: Waiters[None] = Waiters()
        self._unknown: set[str] = set()
        """Headers that a service does not take."""

    async def put(self, store: ObjectStore, path: str, make: Make, *, replace: bool, check: Check = unchecked) -> None:
        """Have ``make`` make an object by one PUT; without ``replace`` only where there is none.

        ``check`` is called right before. Where the service is not known to honour the condition, one looks before;
        what is made by somebody else at the very moment is then replaced. Raises DestinationExists, and Refused.
        """
        if not replace and self.honoured is not True and await store.head(path) is not None:
            raise store.refusals.exists(path)
        check()
        if replace or self.honoured is False:
            await make({})
            return
        try:
            await self._make(make, _ONLY_NEW, known=self.honoured is True)
        except Refused as refusal:
            if refusal.status == 412:
                self.honoured = True
            raise
        if not self._unknown.isdisjoint(_ONLY_NEW):
            self.honoured = False

    async def complete(
        self, store: ObjectStore, path: str, make: Make, *, replace: bool, over: str | None = None
    ) -> None:
        """Have ``make`` make an object of parts: without ``replace`` where there is none, else in place of ``over``.

        ``over`` is the identity of what was found there, "" for nothing; None: whatever is there. One looks before in
        any case, for a service may honour the condition of a PUT and ignore that of a completion. Raises
        DestinationExists, which is retryable where something else than ``over`` is there, and Refused.
        """
        if replace and over is None:
            await make({})
            return
        found = await store.head(path)
        if found is not None and not replace:
            raise store.refusals.exists(path)
        if replace and (found.inspection.identity if found is not None else "") != over:
            raise store.refusals.overtaken(path)
        try:
            await self._make(make, _ONLY_NEW if found is None else found.condition)
        except Refused as refusal:
            if refusal.status == 412 and replace:
                raise store.refusals.overtaken(path) from refusal
            raise

    async def _make(self, make: Make, condition: Mapping[str, str], *, known: bool = False) -> None:
        """Have it made on a condition, or without where the service is not ``known`` to take its header, and does not.

        A service may take it with a PUT and not with a completion.
        """
        sent = {name: value for name, value in condition.items() if name not in self._unknown}
        try:
            await make(sent)
        except Refused as refusal:
            if not sent or known or not refusal.header_unknown:
                raise
            await make({})
            self._unknown |= set(sent)

    async def remove(self, store: ObjectStore, path: str, found: FoundObject) -> None:
        """Remove an object that is still as it was ``found``; one looks right before where the service does not.

        Where the service keeps older ones, that before it is there again.
        """
        if found.version and await self._remove_version(store, path, found.version):
            return
        condition = found.condition if self.removes else NO_CONDITION
        if not condition:
            there = await store.head(path)
            if there is None or (there.inspection.identity, there.upload) != (found.inspection.identity, found.upload):
                return
        try:
            await store.delete(path, condition)
        except Refused as refusal:
            if refusal.status != 412:
                raise store.refusals.of(refusal, path) from refusal

    async def ready(self, store: ObjectStore) -> None:
        """Find out what is not known, and remove what was left over that; at most once an hour.

        Those who come while it is found out wait for it; what fails leaves it unknown, and they go on by that.
        Cancelling ends the waiting of these alone: whoever tries goes on to the end.
        """
        if self._trying:
            await self._learnt.wait()
        elif self.honoured is None and self._is_due(self._tried):
            await finish_despite_cancel(Deferred.fromCoroutine(self.probe(store)))
        else:
            await self.tidy(store)

    async def tidy(self, store: ObjectStore) -> None:
        """Remove what processes left that died over a trial; at most once an hour. Cancelling lets it go on."""
        if self._is_due(self._tidied):
            await finish_despite_cancel(Deferred.fromCoroutine(self._tidy(store)))

    async def probe(self, store: ObjectStore) -> None:
        """Find out, by an object of no bytes that is made twice, and removed. What fails leaves it unknown."""
        self._tried = self._seconds()
        self._trying = True
        path = new_trial()
        try:
            try:
                self.honoured = await self._is_honoured(store, path)
            finally:
                self._trying = False
                self._learnt.wake(None)
        except DataMoverError:
            return
        finally:
            for _ in range(2):  # Once more where the connection broke.
                with suppress(DataMoverError, Refused):
                    await self._remove_trial(store, path)
                    break
        await self._tidy(store)

    def _is_due(self, last: float | None) -> bool:
        return last is None or self._seconds() - last >= OLD

    async def _is_honoured(self, store: ObjectStore, path: str) -> bool | None:
        """Tell whether a second PUT is refused, None where it is with another word than that of the condition."""
        try:
            await store.put(path, b"", _ONLY_NEW)
        except Refused as refusal:
            return False if refusal.header_unknown else None
        try:
            await store.put(path, b"", _ONLY_NEW)
        except Refused as refusal:
            return True if refusal.status == 412 else None
        return False

    async def remove_versions(self, store: ObjectStore, path: str) -> FoundObject | None:
        """Remove an object by which something was tried, which may have been replaced once; return what is there then.

        Where the service keeps older ones, each goes by its number, for good; what may not go so is still there.
        """
        found = await store.head(path)
        for _ in range(2):
            if found is not None and found.version and await self._remove_version(store, path, found.version):
                found = await store.head(path)
        return found

    async def _remove_version(self, store: ObjectStore, path: str, version: str) -> bool:
        """Remove one version; tell whether that was allowed."""
        try:
            await store.delete(path, version=version)
        except DestinationForbidden:
            return False
        return True

    async def _remove_trial(self, store: ObjectStore, path: str) -> None:
        """Remove it on the condition that it is another, and as what it is if that is heeded."""
        self.removes = False
        found = await self.remove_versions(store, path)
        if found is None:
            return
        try:
            await store.delete(path, _ONLY_ANOTHER)
        except Refused as refusal:
            if refusal.status == 412 and found.condition:
                with suppress(Refused):
                    await store.delete(path, found.condition)
                    self.removes = True
            if not self.removes:
                await store.delete(path)

    async def _tidy(self, store: ObjectStore) -> None:
        self._tidied = self._seconds()
        with suppress(DataMoverError):
            for path in await store.beginning(BEGINNING):
                found = await store.head(path) if is_trial(path) else None
                if found is not None and is_left(path, found):
                    found = await self.remove_versions(store, path)
                    if found is not None:
                        await self.remove(store, path, found)
