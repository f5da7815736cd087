"""The limits of the queue: how many transfers may be active, and how many files may wait. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one owner; None: no limit of its own."""

    queued: int | None = None
    """Files that may wait."""
    max_active: int | None = None
    """Transfers that may be active."""
    bytes_per_day: int | None = None
    """Bytes of files that were completed in the last 24 hours, and of those that move."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many transfers may be active at a time, over all processes, and how many files may wait."""

    destinations: Mapping[str, int] = field(default_factory=dict)
    """The limit of each registered destination."""
    total: int = 256
    here: int = 1_000_000
    """Those of one process. Each engine has a limit of its own; an explanation of what waits takes them to be equal."""
    per_owner: int = 128
    per_source_host: int = 32
    queued: int = 1_000_000
    """Files that may wait; submissions beyond that are refused."""
    owners: Mapping[str, Quota] = field(default_factory=dict)
    """The limits of owners that have limits of their own."""
    shared: bool = False
    """Whether there are several owners, of whom none may take all of a destination, a source's host or a process."""

    def quota(self, owner: str) -> Quota:
        """Return an owner's limits."""
        return self.owners.get(owner, Quota())

    def active_of(self, owner: str) -> int:
        """Return the number of transfers of an owner that may be active."""
        most = min(self.per_owner, self.one_of(self.total))
        own = self.quota(owner).max_active
        return most if own is None else min(own, most)

    def one_of(self, most: int) -> int:
        """Return how many of ``most`` transfers to a destination, from a host or of a process one owner may have.

        A quarter is kept for others, who would wait for transfers that may take hours.
        """
        return most - max(1, most // 4) if self.shared and most > 1 else most

    def bytes_per_day(self) -> dict[str, int]:
        """Return the bytes per day of the owners with that limit."""
        found = {owner: quota.bytes_per_day for owner, quota in self.owners.items()}
        return {owner: most for owner, most in found.items() if most is not None}
