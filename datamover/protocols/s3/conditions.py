"""Whether the service makes an object only where none is: tried once, and remembered."""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from datamover.errors import DataMoverError
from datamover.protocols.s3.bucket import Bucket
from datamover.protocols.s3.service import Refused
from datamover.protocols.upload import Check, unchecked

_ONLY_NEW = {"If-None-Match": "*"}
_UNKNOWN = frozenset({400, 501})
"""Statuses with which a service refuses a header that it does not know."""

Make = Callable[[Mapping[str, str]], Awaitable[None]]
"""Makes an object, with these headers; raises Refused."""


class Conditions:
    """What is known of one service."""

    def __init__(self) -> None:
        self.honoured: bool | None = None
        """None: it is not known."""

    async def make(self, bucket: Bucket, path: str, make: Make, *, replace: bool, check: Check = unchecked) -> None:
        """Have ``make`` make an object; without ``replace`` only where there is none.

        ``check`` is called right before. Where the service is not known to honour the condition, one looks before;
        what is made by somebody else at the very moment is then replaced. Raises DestinationExists, and Refused.
        """
        if not replace and self.honoured is not True and await bucket.head(path) is not None:
            raise bucket.refusals.exists(path)
        check()
        if replace or self.honoured is False:
            await make({})
            return
        try:
            await make(_ONLY_NEW)
        except Refused as refusal:
            if refusal.status == 412:
                self.honoured = True
            if self.honoured or refusal.status not in _UNKNOWN or refusal.code == "RequestTimeout":
                raise
            await make({})
            self.honoured = False

    async def probe(self, bucket: Bucket) -> None:
        """Find out, by an object of no bytes that is made twice, and removed. What fails leaves it unknown."""
        path = f".datamover-probe-{os.urandom(8).hex()}"
        try:
            await bucket.put(path, b"", _ONLY_NEW)
            try:
                await bucket.put(path, b"", _ONLY_NEW)
                self.honoured = False
            except Refused as refusal:
                self.honoured = True if refusal.status == 412 else None
        except Refused as refusal:
            self.honoured = False if refusal.status in _UNKNOWN else None
        except DataMoverError:
            return
        finally:
            with suppress(DataMoverError):
                await bucket.delete(path)
