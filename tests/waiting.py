"""Waiting: until a condition holds, and how long something waited by the turns of the reactor."""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall, deferLater

PATIENCE = 90.0
"""Seconds that a condition is waited for: what a test expects comes much earlier, however busy the machine is."""
PAUSE = 0.02
"""Seconds between two looks at a condition."""
STEP = 0.05
"""Seconds between two looks at the clock."""


async def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until ``condition``, which may be a coroutine function, returns something true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await maybeDeferred(condition)):
        assert time.monotonic() < deadline, f"in vain: {what}"
        await deferLater(reactor, PAUSE)
    return found


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Do as ``until`` where no reactor turns; blocks."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(PAUSE)
    return found


class Waiting:
    """A context in which the reactor looks at the clock every so often, so that only its own turns are counted.

    A process that the system stops, or leaves without a processor, misses looks, which are not made up for.
    """

    def __init__(self) -> None:
        self._looks = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    @property
    def seconds(self) -> float:
        """Return the seconds that passed while the reactor could turn."""
        return self._looks * STEP

    def __enter__(self) -> "Waiting":
        self._looking.start(STEP, now=False)
        return self

    def __exit__(self, *failure: object) -> None:
        self._looking.stop()

    def _look(self) -> None:
        self._looks += 1


class TurnCounter:
    """A context in which the turns of the reactor are counted."""

    def __init__(self) -> None:
        self.count = 0
        self._next: Any = None

    def __enter__(self) -> "TurnCounter":
        self._ask()
        return self

    def __exit__(self, *failure: object) -> None:
        self._next.cancel()

    def _ask(self) -> None:
        self._next = reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._ask()
