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
        """None: it is not known."""

    async def make(self, store: ObjectStore, path: str, make: Make, *, replace: bool, check: Check = unchecked) -> None:
        """Have ``make`` make an object; without ``replace`` only where there is none.

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
            await make(_ONLY_NEW)
        except Refused as refusal:
            if refusal.status == 412:
                self.honoured = True
            if self.honoured or not refusal.header_unknown:
                raise
            await make({})
            self.honoured = False

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
