"""Locks by name."""

from collections.abc import Callable

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from datamover.concurrency.locks import Locks


@pytest_twisted.ensureDeferred
async def test_one_by_one() -> None:
    """Those who want the same name wait for each other, in their order; others do not; nothing is left behind."""
    locks, said, gates = Locks(), list[str](), dict[str, Deferred[None]]()

    async def hold(name: str, who: str) -> None:
        async with locks.held(name):
            said.append(who)
            gates[who] = Deferred()
            await gates[who]

    holding: Callable[[str, str], Deferred[None]] = lambda name, who: Deferred.fromCoroutine(hold(name, who))  # noqa: E731
    first, second, third, other = (
        holding(name, who) for name, who in [("a", "first"), ("a", "second"), ("a", "third"), ("b", "other")]
    )
    assert said == ["first", "other"]
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    gates["first"].callback(None)
    await first
    assert said == ["first", "other", "third"]
    for who in ("third", "other"):
        gates[who].callback(None)
    await third
    await other
    assert len(locks) == 0


@pytest_twisted.ensureDeferred
async def test_several_at_once() -> None:
    """At most ``at_once`` hold a lock; one that fails gives its place to the next, and nothing is left behind."""
    locks, begun, gate = Locks(), list[int](), Deferred[None]()

    async def hold(number: int) -> None:
        async with locks.held(("host", "h"), 2):
            begun.append(number)
            await gate
            if number == 0:
                raise ValueError("it broke")

    holding = [Deferred.fromCoroutine(hold(number)) for number in range(3)]
    assert begun == [0, 1]
    gate.callback(None)
    with pytest.raises(ValueError, match="it broke"):
        await holding[0]
    assert begun == [0, 1, 2]
    await holding[1]
    await holding[2]
    assert len(locks) == 0
