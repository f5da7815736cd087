"""How long something waited, by the turns of the reactor: what a machine had no time for is not in it."""

from twisted.internet import reactor
from twisted.internet.task import LoopingCall

STEP = 0.05
"""Seconds between two looks."""


class Waiting:
    """A context in which the reactor looks at the clock every so often.

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
