"""Callers that wait for the same result."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters


def results(waiters: Waiters[int], count: int) -> tuple[list[Deferred[int]], list[object]]:
    """Return Deferreds that wait, and the list of what they fire with."""
    found: list[object] = []
    waiting = [waiters.wait() for _ in range(count)]
    for waiter in waiting:
        waiter.addBoth(lambda result: found.append(result.type if isinstance(result, Failure) else result))
    return waiting, found


@pytest.mark.parametrize(("result", "seen"), [(7, 7), (Failure(OSError()), OSError)])  # type: ignore[no-untyped-call]
def test_all_get_the_same(result: int | Failure, seen: object) -> None:
    """Everybody who waits gets the result or the failure, once; who waits later gets the next one."""
    waiters: Waiters[int] = Waiters()
    _, found = results(waiters, 2)
    assert len(waiters) == 2
    waiters.wake(result)
    waiters.wake(8)
    assert found == [seen, seen]
    assert not waiters


def test_cancelling() -> None:
    """A caller that is cancelled waits no more; the others are woken, also when one of them cancels another."""
    waiters: Waiters[int] = Waiters()
    waiting, found = results(waiters, 4)
    waiting[0].cancel()
    assert found == [CancelledError]
    waiting[1].addBoth(lambda _: waiting[2].cancel())
    waiters.wake(7)
    assert found == [CancelledError, 7, CancelledError, 7]


def test_deserted() -> None:
    """When the last one is cancelled, ``deserted`` is called, so that the work can stop."""
    told: list[int] = []
    waiters: Waiters[int] = Waiters(lambda: told.append(len(waiters)))
    waiting = [waiters.wait().addErrback(lambda _: 0) for _ in range(2)]
    waiting[0].cancel()
    assert not told
    waiting[1].cancel()
    assert told == [0]
