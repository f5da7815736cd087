"""What the engine tells whoever counts: a seam, so that nothing here knows what the counts are for."""

from typing import Protocol


class Observer(Protocol):
    """Is told as things happen, on the reactor's thread; must be quick, and must not raise."""

    def claimed(self, groups: int) -> None:
        """Placement groups were taken from the queue."""
        ...

    def attempt_ended(self, outcome: str, code: str | None) -> None:
        """An attempt ended: completed, retrying, failed, cancelled, parked or lost; ``code`` of the error, if any."""
        ...

    def bytes_moved(self, destination: str, count: int) -> None:
        """Bytes were moved for a destination since this was last told."""
        ...

    def lease_lost(self) -> None:
        """A lease was lost, or could not be renewed in time."""
        ...

    def taken_over(self, groups: int) -> None:
        """Groups whose lease ran out were put back in the queue."""
        ...

    def loop_failed(self, loop: str) -> None:
        """A loop that must go on met an error that nobody foresaw; it goes on. ``loop`` is one of ``loops.LOOPS``."""
        ...


class Unobserved:
    """Nobody counts."""

    def claimed(self, groups: int) -> None: ...

    def attempt_ended(self, outcome: str, code: str | None) -> None: ...

    def bytes_moved(self, destination: str, count: int) -> None: ...

    def lease_lost(self) -> None: ...

    def taken_over(self, groups: int) -> None: ...

    def loop_failed(self, loop: str) -> None: ...


UNOBSERVED = Unobserved()
