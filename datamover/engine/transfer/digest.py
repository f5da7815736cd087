"""The running digests of one stream, computed in threads beside the moving.

``hashlib`` releases the interpreter for more than 2 KiB, so a digest costs the reactor's thread little more than a
hand-over; bytes are gathered so that there are few of those.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.concurrency.buffer_budgets import Buffers
from datamover.concurrency.serial import SerialExecutor
from datamover.protocols.base import Octets

BATCHES = Buffers(4 * 2**20, least=5 * 2**14, most=2**19)
"""Bytes of each stream that are gathered before a thread gets them; who streams joins."""
AHEAD = 2
"""Batches that a thread has or will have before no more are taken: it goes from one to the next at once."""
INLINE = 64 * 1024
"""Bytes that are not worth a thread."""
MAIN = "sha256"


_Digests = dict[str, str]
_Mark = Deferred[_Digests]


class Digest:
    """Every algorithm asked for, over the same bytes; sha256 is always among them."""

    def __init__(self, lane: SerialExecutor, algorithms: Iterable[str] = ()) -> None:
        """Begin with no bytes; ``lane`` is for this digest alone."""
        self._lane = lane
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in (MAIN, *algorithms)}
        self._held: list[Octets | _Mark] = []
        """What is next, in order: bytes, and who is to be told the digests of all before."""
        self._held_size = 0
        self._under_way = 0
        """Batches that a thread has, or will have."""
        self._room: Deferred[None] | None = None
        self._failure: Failure | None = None
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
        if self._held_size >= BATCHES.size:
            self._hand_over()
        while self._under_way > AHEAD:
            # Cancelling must reach who waits, not the thread's answer.
            self._room = Deferred()
            await self._room
        if self._failure is not None:
            self._failure.raiseException()

    def hexdigests(self) -> _Mark:
        """Fire with the digest of everything added so far, for each algorithm; more may be added meanwhile.

        Cancelling lets go of the answer alone.
        """
        mark: _Mark = Deferred()
        self._held.append(mark)
        self._hand_over()
        return mark

    def _hand_over(self) -> None:
        held, size = self._held, self._held_size
        self._held, self._held_size = [], 0
        marks = [piece for piece in held if isinstance(piece, Deferred)]
        pieces = [None if isinstance(piece, Deferred) else piece for piece in held]
        self._under_way += 1
        if size <= INLINE and self._under_way == 1:
            self._handed_over(_update(self._hashes, pieces), marks)
        else:
            self._lane.run(_update, self._hashes, pieces).addBoth(self._handed_over, marks)

    def _handed_over(self, told: "Sequence[_Digests] | Failure", marks: Sequence[_Mark]) -> None:
        self._under_way -= 1
        if isinstance(told, Failure):
            self._failure = told
        for number, mark in enumerate(marks):
            if not mark.called:
                mark.callback(told if isinstance(told, Failure) else told[number])
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)


def _update(hashes: Mapping[str, Any], pieces: Sequence[Octets | None]) -> list[_Digests]:
    """Take the pieces in; for each None among them, return what the digests are there."""
    told = []
    for piece in pieces:
        if piece is None:
            told.append({name: value.hexdigest() for name, value in hashes.items()})
        else:
            for value in hashes.values():
                value.update(piece)
    return told
