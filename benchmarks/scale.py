"""How much of the full work a run does: all of it, or a part, to check that everything works."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """``part`` is the fraction of the full sizes and counts, ``rounds`` the number of turns of each way."""

    part: float = 1.0
    rounds: int = 5

    def bytes(self, full: float) -> int:
        return max(10_000, int(full * self.part))

    def count(self, full: int) -> int:
        return max(16, int(full * self.part))
