"""The running digests of one stream."""

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from datamover.concurrency.serial import SerialExecutor
from datamover.engine.transfer.digest import AHEAD, BATCHES, INLINE, Digest
from datamover.errors import ConnectionLost
from tests.unit.executors import Later, here
from tests.unit.outcomes import failure


def result(deferred: "Deferred[Any]") -> Any:
    assert deferred.called
    return deferred.result


@given(pieces=st.lists(st.binary(max_size=200), max_size=20), repeat=st.sampled_from([1, 700, 20_000]))
def test_equal_to_hashlib(pieces: list[bytes], repeat: int) -> None:
    """However the stream is cut, the digests are hashlib's, and they may be asked for in between."""
    digest = Digest(here, ["md5"])
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
    assert Digest(here).algorithms == {"sha256"}
    assert Digest(here, ["sha256", "sha512"]).algorithms == {"sha256", "sha512"}


def test_memory_is_bounded() -> None:
    """While a thread hashes one batch, others wait for it, and no more is taken until it is done."""
    thread = Later()
    digest = Digest(lambda: thread.executor)
    for _ in range(AHEAD):
        assert Deferred.fromCoroutine(digest.add(b"x" * BATCHES.size)).called
    assert Deferred.fromCoroutine(digest.add(b"y" * (BATCHES.size - 1))).called
    last = Deferred.fromCoroutine(digest.add(b"z"))
    assert not last.called
    thread.work()
    assert last.called


def test_little_is_not_worth_a_thread() -> None:
    """A small file is hashed where it is."""
    thread = Later()
    digest = Digest(lambda: thread.executor)
    Deferred.fromCoroutine(digest.add(b"x" * INLINE))
    assert result(digest.hexdigests())["sha256"] == hashlib.sha256(b"x" * INLINE).hexdigest()
    assert not thread.waiting


def test_cancelling_does_not_disturb_the_thread() -> None:
    """Who waits is let go at once; the digest goes on from what the thread was given."""
    thread = Later()
    digest = Digest(lambda: thread.executor)
    Deferred.fromCoroutine(digest.add(b"x" * BATCHES.size))
    asked = digest.hexdigests()
    asked.cancel()
    assert isinstance(failure(asked), CancelledError)
    later = digest.hexdigests()
    assert not later.called
    thread.work()
    assert result(later)["sha256"] == hashlib.sha256(b"x" * BATCHES.size).hexdigest()


def test_threads_that_are_stopped() -> None:
    """Why a thread cannot be had is told as it is, whichever algorithm meets it first: such an error is retried."""

    def closed(work: object) -> None:
        raise ConnectionLost("the service is stopping")

    digest = Digest(lambda: SerialExecutor(closed, lambda call, *arguments: call(*arguments)), ["md5"])
    assert isinstance(failure(Deferred.fromCoroutine(digest.add(b"x" * BATCHES.size))), ConnectionLost)
    assert isinstance(failure(digest.hexdigests()), ConnectionLost)
