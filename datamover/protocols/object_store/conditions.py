"""Whether the service makes an object only where none is: tried once, and remembered."""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from datamover.errors import DataMoverError
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.seam import ObjectStore
from datamover.protocols.upload import Check, unchecked

_ONLY_NEW = {"If-None-Match": "*"}

Make = Callable[[Mapping[str, str]], Awaitable[None]]
"""Makes an object, with these headers; raises Refused."""


class Conditions:
    """What is known of one service."""

    def __init__(self, *, honoured: bool | None = None) -> None:
        self.honoured = honoured
        """Whether a PUT is refused where something is; None: it is not known."""
        self._learning = False
        self._unknown: set[str] = set()
        """Headers that a service does not take."""

    async def put(
        self,
        store: ObjectStore,
        path: str,
        make: Make,
        *,
        replace: bool,
        check: Check = unchecked,
        repeatable: bool = False,
    ) -> None:
        """Have ``make`` make an object by one PUT; without ``replace`` only where there is none.

        What is ``repeatable`` may be made once more, to see whether the service honours the condition.
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
        elif repeatable and self.honoured is None and not self._learning:
            self._learning = True
            await self._learn(make)

    async def _learn(self, make: Make) -> None:
        """Find out by making once more what was just made: later files need not be looked for before."""
        try:
            await make(_ONLY_NEW)
            self.honoured = False
        except Refused as refusal:
            self.honoured = True if refusal.status == 412 else None
        except DataMoverError:
            self.honoured = None

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

    async def learn(self, store: ObjectStore) -> None:
        """Find out what is not known, unless that is under way or was tried in vain."""
        if self.honoured is None and not self._learning:
            self._learning = True
            await self.probe(store)

    async def probe(self, store: ObjectStore) -> None:
        """Find out, by an object of no bytes that is made twice, and removed. What fails leaves it unknown."""
        path = f".datamover-probe-{os.urandom(8).hex()}"
        try:
            await store.put(path, b"", _ONLY_NEW)
            try:
                await store.put(path, b"", _ONLY_NEW)
                self.honoured = False
            except Refused as refusal:
                self.honoured = True if refusal.status == 412 else None
        except Refused as refusal:
            self.honoured = False if refusal.header_unknown else None
        except DataMoverError:
            return
        finally:
            with suppress(DataMoverError):
                await store.delete(path)
