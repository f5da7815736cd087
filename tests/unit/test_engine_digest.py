"""The running digests of one stream."""

import hashlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred

from datamover.engine.digest import BATCHES, INLINE, Digest
from tests.unit.outcomes import failure


class Threads:
    """Runs what is offloaded when told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def offload(self, function: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
        answer: Deferred[Any] = Deferred()
        self.waiting.append(lambda: answer.callback(function(*arguments)))
        return answer

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def at_once(function: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
    return maybeDeferred(function, *arguments)


def result(deferred: "Deferred[Any]") -> Any:
    assert deferred.called
    return deferred.result


@given(pieces=st.lists(st.binary(max_size=200), max_size=20), repeat=st.sampled_from([1, 700, 20_000]))
def test_equal_to_hashlib(pieces: list[bytes], repeat: int) -> None:
    """However the stream is cut, the digests are hashlib's, and they may be asked for in between."""
    digest = Digest(at_once, ["md5"])
    whole = b""
    for piece in pieces:
        result(Deferred.fromCoroutine(digest.add(piece * repeat)))
        whole += piece * repeat
    for _ in range(2):
        assert result(digest.hexdigests()) == {
            "sha256": hashlib.sha256(whole).hexdigest(),
            "md5": hashlib.md5(whole).hexdigest(),
        }
        result(Deferred.fromCoroutine(digest.add(b"more")))
        whole += b"more"
    assert digest.size == len(whole)


def test_sha256_is_always_there() -> None:
    """Whatever else is asked for, sha256 is computed, once."""
    assert Digest(at_once).algorithms == {"sha256"}
    assert Digest(at_once, ["sha256", "sha512"]).algorithms == {"sha256", "sha512"}


def test_memory_is_bounded() -> None:
    """While a thread hashes one batch, a second may gather, and no more is taken until the first is done."""
    threads = Threads()
    digest = Digest(threads.offload)
    assert Deferred.fromCoroutine(digest.add(b"x" * BATCHES.size)).called
    assert Deferred.fromCoroutine(digest.add(b"y" * (BATCHES.size - 1))).called
    third = Deferred.fromCoroutine(digest.add(b"z"))
    assert not third.called
    assert len(threads.waiting) == 1
    threads.run()
    assert third.called


def test_little_is_not_worth_a_thread() -> None:
    """A small file is hashed where it is."""
    threads = Threads()
    digest = Digest(threads.offload)
    Deferred.fromCoroutine(digest.add(b"x" * INLINE))
    assert result(digest.hexdigests())["sha256"] == hashlib.sha256(b"x" * INLINE).hexdigest()
    assert not threads.waiting


def test_cancelling_does_not_disturb_the_thread() -> None:
    """Who waits is let go at once; the digest goes on from what the thread was given."""
    threads = Threads()
    digest = Digest(threads.offload)
    Deferred.fromCoroutine(digest.add(b"x" * BATCHES.size))
    asked = digest.hexdigests()
    asked.cancel()
    assert isinstance(failure(asked), CancelledError)
    later = digest.hexdigests()
    assert not later.called
    threads.run()
    assert result(later)["sha256"] == hashlib.sha256(b"x" * BATCHES.size).hexdigest()
