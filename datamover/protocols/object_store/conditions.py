"""Conditional requests: make an object only if there is none, remove an object only if it is unchanged.

Whether a service honours the conditions is tried with an empty object, which is removed at once, and remembered. Trial
objects that killed processes left are removed later.
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
"""An ETag that no object has."""

HIDDEN = 60.0
"""Seconds for which nothing is stored after a look was forbidden; by then the permission may have been given."""

Make = Callable[[Mapping[str, str]], Awaitable[None]]
"""Makes an object, with these headers; raises Refused."""


class Conditions:
    """The conditions that one service honours."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """``seconds`` is a monotonic clock."""
        self.honoured: bool | None = None
        """Whether a PUT with If-None-Match is refused if the object exists; None: unknown."""
        self.removes = False
        """Whether a DELETE with If-Match is known to be refused if the object has another ETag."""
        self._seconds = seconds
        self._tried: float | None = None
        self._tidied: float | None = None
        """When ``probe`` and ``tidy`` last ran, by ``seconds``."""
        self._hidden: tuple[float, DestinationForbidden] | None = None
        """When a look was forbidden at what had been stored, by ``seconds``, and its error."""
        self._trying = False
        self._learnt: Waiters[None] = Waiters()
        self._unknown: set[str] = set()
        """Headers that the service does not accept."""

    def hidden(self, error: DestinationForbidden) -> None:
        """Record that what was stored may not be looked at."""
        self._hidden = self._seconds(), error

    def check_visible(self, store: ObjectStore, path: str) -> None:
        """Raise DestinationForbidden if that was found lately, before another file is stored that cannot be checked."""
        if self._hidden is not None and self._seconds() - self._hidden[0] < HIDDEN:
            raise store.refusals.consequence(path, "is not stored, since it could not be checked", self._hidden[1])

    async def put(self, store: ObjectStore, path: str, make: Make, *, replace: bool, check: Check = unchecked) -> None:
        """Make an object by calling ``make``, which sends one PUT; without ``replace`` only if there is none.

        ``check`` is called right before. If the service is not known to honour the condition, it is checked before that
        there is no object; one that somebody makes in between is replaced. Raises DestinationExists, Refused.
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
        """Make an object of parts by calling ``make``: without ``replace`` only if there is none, else only ``over``.

        ``over`` is the identity of the object to replace ("": there is none; None: any). The object is looked at before
        in any case, since a service may honour the condition of a PUT and ignore that of a completion. Raises
        DestinationExists, which is retryable if the object is not ``over``, and Refused.
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
        """Call ``make`` with the condition; if its header is refused and not ``known`` to be supported, without it.

        A service may accept it with a PUT and not with a completion.
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
        """Remove an object if it is unchanged since it was ``found``; checked right before, unless the service does it.

        If the service keeps versions, the one before becomes the object again.
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
        """Run ``probe`` if nothing is known, else ``tidy``; each at most once an hour.

        Calls during a probe wait for its end; if it fails, ``honoured`` stays unknown. Cancelling does not interrupt a
        probe.
        """
        if self._trying:
            await self._learnt.wait()
        elif self.honoured is None and self._is_due(self._tried):
            await finish_despite_cancel(Deferred.fromCoroutine(self.probe(store)))
        else:
            await self.tidy(store)

    async def tidy(self, store: ObjectStore) -> None:
        """Remove the trial objects of killed processes; at most once an hour. Cancelling does not interrupt it."""
        if self._is_due(self._tidied):
            await finish_despite_cancel(Deferred.fromCoroutine(self._tidy(store)))

    async def probe(self, store: ObjectStore) -> None:
        """Find out what the service honours, by making an empty object twice. An error leaves it unknown."""
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
        """Tell whether a second PUT is refused by its condition, None if it is refused for another reason."""
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
        """Remove both versions of a trial object for good; return what is there then.

        That is the object itself if the service keeps no versions, or does not let them be removed.
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
        """Remove a trial object, and find out whether a DELETE on a condition that does not hold is refused."""
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
