"""The running digests of one stream, computed in threads while the stream moves.

``hashlib`` releases the GIL for more than 2 KiB, so a digest costs the reactor's thread little more than a call into
the thread pool. Bytes are gathered into batches so that there are few such calls. Each algorithm has a thread of its
own: md5 alone takes twice the time of sha256 where the processor has instructions for that.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from datamover.concurrency.buffer_budgets import Buffers
from datamover.concurrency.serial import SerialExecutor
from datamover.protocols.base import Octets

BATCHES = Buffers(4 * 2**20, least=5 * 2**14, most=2**19)
"""Bytes of a batch; each stream joins this budget."""
AHEAD = 2
"""Batches queued for the thread before ``add`` waits, so that the thread is never idle."""
INLINE = 64 * 1024
"""Bytes up to which the reactor's thread computes the digest itself."""
MAIN = "sha256"


_Digests = dict[str, str]
_Mark = Deferred[_Digests]


class Digest:
    """The digests of the same bytes by several algorithms; sha256 is always among them."""

    def __init__(self, new_executor: Callable[[], SerialExecutor], algorithms: Iterable[str] = ()) -> None:
        """``new_executor`` returns an executor that nobody else uses."""
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in (MAIN, *algorithms)}
        self._new_executor = new_executor
        self._executors: dict[str, SerialExecutor] = {}
        """One for each algorithm, once there is enough for a thread."""
        self._held: list[Octets | _Mark] = []
        """The next batch, in order: bytes, and Deferreds that fire with the digests of all bytes before them."""
        self._held_size = 0
        self._under_way = 0
        """Batches that a thread has, or that are queued for it."""
        self._room: Deferred[None] | None = None
        self._failure: Failure | None = None
        self.size = 0
        """Bytes added."""

    @property
    def algorithms(self) -> frozenset[str]:
        return frozenset(self._hashes)

    async def add(self, data: Octets) -> None:
        """Add the next bytes; completes when there is room for more. Cancelling does not remove them."""
        self._held.append(data)
        self._held_size += len(data)
        self.size += len(data)
        if self._held_size >= BATCHES.size:
            self._hand_over()
        while self._under_way > AHEAD:
            # Cancelling must cancel this wait, not the thread's result.
            self._room = Deferred()
            await self._room
        if self._failure is not None:
            self._failure.raiseException()

    def hexdigests(self) -> _Mark:
        """Fire with the digest of everything added so far, for each algorithm; more may be added meanwhile.

        Cancelling discards only this result.
        """
        mark: _Mark = Deferred()
        self._held.append(mark)
        self._hand_over()
        return mark

    def _hand_over(self) -> None:
        held, size = self._held, self._held_size
        self._held, self._held_size = [], 0
        marks = [piece for piece in held if isinstance(piece, Deferred)]
        self._under_way += 1
        if size <= INLINE and self._under_way == 1:
            self._handed_over([_update(value, held) for value in self._hashes.values()], marks)
        else:
            if not self._executors:
                self._executors = {name: self._new_executor() for name in self._hashes}
            computed = [self._executors[name].run(_update, value, held) for name, value in self._hashes.items()]
            gatherResults(computed, consumeErrors=True).addErrback(_cause).addBoth(self._handed_over, marks)

    def _handed_over(self, result: "Sequence[Sequence[str]] | Failure", marks: Sequence[_Mark]) -> None:
        """End a batch; ``result`` has for each algorithm the digests at the marks."""
        self._under_way -= 1
        if isinstance(result, Failure):
            self._failure = result
        elif self._failure is not None:
            result = self._failure  # Bytes before these are missing.
        for number, mark in enumerate(marks):
            if not mark.called:
                mark.callback(
                    result
                    if isinstance(result, Failure)
                    else {name: digests[number] for name, digests in zip(self._hashes, result, strict=True)}
                )
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)


def _cause(failure: Failure) -> Failure:
    """Return what the first of several calls failed with, which ``gatherResults`` wraps."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure


def _update(digest: Any, pieces: Sequence[Octets | _Mark]) -> list[str]:
    """Hash the pieces; for each mark among them, return the digest of all bytes before it."""
    digests = []
    for piece in pieces:
        if isinstance(piece, Deferred):
            digests.append(digest.hexdigest())
        else:
            digest.update(piece)
    return digests
