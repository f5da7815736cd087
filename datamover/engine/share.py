"""The share of one of several engine processes in the work of one service. Pure.

Without shares the first process to claim would take all that a destination allows, and the others would be idle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from datamover.jobs.queue.limits import QueueLimits


@dataclass(frozen=True, slots=True)
class ProcessShare:
    """The share of process ``number``, counted from 0, among ``of`` processes."""

    number: int = 0
    of: int = 1

    def part(self, limit: int) -> int:
        """Return this process's part of a limit; the parts of all processes add up to it."""
        return limit // self.of + (self.number < limit % self.of)

    def first(self, most: int) -> int:
        """Return how many groups to claim first after the queue was empty; ``most`` is the largest claim.

        The caller doubles it for the next claim, after a pause in which the other processes claim: so a few transfers
        are shared out too.
        """
        return most if self.of == 1 else 1

    def room(self, limits: QueueLimits, active: Mapping[str, int], room: int) -> tuple[QueueLimits, int]:
        """Return the limits and the number of groups of a claim.

        ``active`` counts this process's groups by destination. A process takes its part, rounded up, of each
        destination's limit; a destination where it has that gets a limit of 0, so that the other processes claim there.
        """
        if self.of == 1:
            return limits, room
        free = {name: -(-limit // self.of) - active.get(name, 0) for name, limit in limits.destinations.items()}
        left = {name: limit if free[name] > 0 else 0 for name, limit in limits.destinations.items()}
        rooms = [part for part in free.values() if part > 0]
        return replace(limits, destinations=left), min([room, *rooms]) if rooms else 0


ALONE = ProcessShare()
