"""Locks by name."""

from collections.abc import Callable

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from datamover.locks import Locks


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
