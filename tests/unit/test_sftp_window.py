"""How much an SFTP transfer may have under way."""

from typing import Any

from twisted.internet.task import Clock

from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.sftp.client.window import MOST, NEAR, Window

MIB = 2**20


class Path:
    """A channel to a server some seconds away, as far as a window looks at it."""

    def __init__(self, distance: float) -> None:
        self.distance = distance
        self.clock = Clock()


def window(path: Any, budget: Buffers | None = None) -> Window:
    return Window(path, budget or Buffers(64 * MIB, least=MIB, most=MOST))


def test_window_near() -> None:
    """A server close by is asked for no more, however fast it is."""
    path = Path(0.0005)
    one = window(path)
    for _ in range(100):
        path.clock.advance(0.002)
        one.took(MIB)
    assert one.size == NEAR


def test_window_far() -> None:
    """A window grows to twice what comes in the time there and back, and no further; a slow moment takes nothing."""
    path = Path(0.2)
    one = window(path)
    first = one.size
    assert NEAR < first <= MOST // 2
    path.clock.advance(0.4)
    one.took(12 * MIB)
    assert first < one.size == 12 * MIB
    path.clock.advance(0.4)
    one.took(MIB)
    assert one.size == 12 * MIB
    for _ in range(5):
        path.clock.advance(0.4)
        one.took(200 * MIB)
    assert one.size == MOST


def test_window_among_many() -> None:
    """What a transfer wants yields to what is there for each, and comes back when others have ended."""
    path = Path(0.2)
    budget = Buffers(8 * MIB, least=MIB, most=MOST)
    windows = [window(path, budget) for _ in range(8)]
    assert [one.size for one in windows] == [MIB] * 8
    for one in windows[1:]:
        one.close()
    assert windows[0].size == 8 * MIB
