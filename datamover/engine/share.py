"""What of the work is one process's own, where several engine processes share that of one service. Pure.

Without it the first to look would take all that a destination allows, and the others would find nothing to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from datamover.jobs.queue.limits import QueueLimits


@dataclass(frozen=True, slots=True)
class ProcessShare:
    """This process is ``number``, counted from 0, ``of`` so many."""

    number: int = 0
    of: int = 1

    def part(self, limit: int) -> int:
        """Return this process's part of a limit; the parts of all add up to it."""
        return limit // self.of + (self.number < limit % self.of)

    def first(self, most: int) -> int:
        """Return what the first claim asks for after there was too little, where ``most`` is what one may ask for.

        The next may ask for twice as much, after a moment in which the others have their turn: so a few transfers are
        shared out too.
        """
        return most if self.of == 1 else 1

    def room(self, bounds: QueueLimits, active: Mapping[str, int], room: int) -> tuple[QueueLimits, int]:
        """Return what a claim may ask for: the destinations that are open to this process, and how many groups.

        ``active``: groups of this process by destination. Of a destination's limit a process takes its part, rounded
        up; where it has that, the destination is left to the others, by a limit of 0.
        """
        if self.of == 1:
            return bounds, room
        free = {name: -(-limit // self.of) - active.get(name, 0) for name, limit in bounds.destinations.items()}
        left = {name: limit if free[name] > 0 else 0 for name, limit in bounds.destinations.items()}
        rooms = [part for part in free.values() if part > 0]
        return replace(bounds, destinations=left), min([room, *rooms]) if rooms else 0


ALONE = ProcessShare()
