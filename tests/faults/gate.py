"""A gate that transfers stand at: a test that wants them midway need not catch them there.

Each moves as fast as it can, up to as many bytes as the gate's file says, and stands there until that is more, or the
file is gone. To the transfer it is its rate limit; one that is to be parked is let through to where it parks itself.
"""

from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from datamover.engine.transfer import pipe, transfer

STEP = 0.02
"""Seconds between two looks at the gate."""


class Gate:
    """What is before one transfer; takes the place of its rate limit."""

    def __init__(self, path: Path, parts: dict[str, Any]) -> None:
        self._path = path
        self._meter, self._lease, self._clock = parts["meter"], parts["lease"], parts["clock"]

    async def take(self, size: int) -> float:
        """Wait; return the seconds waited."""
        waited = 0.0
        while self._shut and not self._lease.parking:
            await deferLater(self._clock, STEP)
            waited += STEP
        return waited

    @property
    def _shut(self) -> bool:
        try:
            return int(self._meter.bytes_done) >= int(self._path.read_text())
        except FileNotFoundError:
            return False


def install(path: Path) -> None:
    """Put a gate before every transfer of this process."""

    class Gated(pipe.Pipe):
        def __init__(self, **parts: Any) -> None:
            super().__init__(**{**parts, "throttle": Gate(path, parts)})

    setattr(transfer, "Pipe", Gated)  # noqa: B010 - to mypy it is not the module's to give away
