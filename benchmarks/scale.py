"""How much of the full work a run does: all of it, or less to see whether everything works."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """``part`` is a share of the full sizes and counts, ``rounds`` how often each way gets its turn."""

    part: float = 1.0
    rounds: int = 5

    def bytes(self, full: float) -> int:
        return max(10_000, int(full * self.part))

    def count(self, full: int) -> int:
        return max(16, int(full * self.part))
