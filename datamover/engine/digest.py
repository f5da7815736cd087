"""The running digests of one stream, computed in threads beside the moving.

``hashlib`` releases the interpreter for more than 2 KiB, so a digest costs the reactor's thread little more than a
hand-over; bytes are gathered so that there are few of those.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from datamover.protocols.base import Octets

Offload = Callable[..., "Deferred[Any]"]
"""Calls a function with arguments in a thread; the Deferred has its result."""

BATCH = 2**20
"""Bytes that are gathered before a thread gets them."""
INLINE = 64 * 1024
"""Bytes that are not worth a thread."""
MAIN = "sha256"


class Digest:
    """Every algorithm asked for, over the same bytes; sha256 is always among them."""

    def __init__(self, offload: Offload, algorithms: Iterable[str] = ()) -> None:
        self._offload = offload
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in (MAIN, *algorithms)}
        self._held: list[Octets] = []
        self._held_size = 0
        self._running: Deferred[None] | None = None
        self.size = 0
        """Bytes added."""

    @property
    def algorithms(self) -> frozenset[str]:
        return frozenset(self._hashes)

    async def add(self, data: Octets) -> None:
        """Take the next bytes; completes when there is room for more. Cancelling leaves them taken."""
        self._held.append(data)
        self._held_size += len(data)
        self.size += len(data)
        if self._held_size >= BATCH:
            await self._hand_over()

    async def hexdigests(self) -> dict[str, str]:
        """Return the digest of everything added so far, for each algorithm; more may be added afterwards."""
        await self._hand_over()
        await self._settled()
        return {name: value.copy().hexdigest() for name, value in self._hashes.items()}

    async def _hand_over(self) -> None:
        await self._settled()
        pieces, size = self._held, self._held_size
        self._held, self._held_size = [], 0
        if size <= INLINE:
            _update(tuple(self._hashes.values()), pieces)
        else:
            self._running = self._offload(_update, tuple(self._hashes.values()), pieces)

    async def _settled(self) -> None:
        if self._running is None:
            return
        running = self._running
        waiter: Deferred[None] = Deferred()

        # Cancelling must reach who waits, not the thread's answer: the hashes are not to be read before it.
        def done(result: Any) -> Any:
            if not waiter.called:
                waiter.callback(None)
            return result

        running.addBoth(done)
        await waiter
        self._running = None
        await running


def _update(hashes: Sequence[Any], pieces: Sequence[Octets]) -> None:
    for value in hashes:
        for piece in pieces:
            value.update(piece)
