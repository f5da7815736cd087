"""The events that the engine reports to the metrics, as a Protocol, so that the engine does not know the metrics."""

from typing import Protocol


class Observer(Protocol):
    """Its methods are called on the reactor's thread as events happen; they must be fast and must not raise."""

    def claimed(self, groups: int) -> None:
        """Placement groups were taken from the queue."""
        ...

    def attempt_ended(self, outcome: str, code: str | None) -> None:
        """An attempt ended: completed, retrying, failed, cancelled, parked or lost; ``code`` of the error, if any."""
        ...

    def bytes_moved(self, destination: str, count: int) -> None:
        """``count`` bytes were moved to a destination since the last call for it."""
        ...

    def lease_lost(self) -> None:
        """A lease was taken over, or was not renewed in time."""
        ...

    def taken_over(self, groups: int) -> None:
        """Groups whose lease ran out were returned to the queue."""
        ...

    def loop_failed(self, loop: str) -> None:
        """A supervised loop met an unexpected error, and goes on. ``loop`` is one of ``loops.LOOPS``."""
        ...


class Unobserved:
    """Ignores all events."""

    def claimed(self, groups: int) -> None: ...

    def attempt_ended(self, outcome: str, code: str | None) -> None: ...

    def bytes_moved(self, destination: str, count: int) -> None: ...

    def lease_lost(self) -> None: ...

    def taken_over(self, groups: int) -> None: ...

    def loop_failed(self, loop: str) -> None: ...


UNOBSERVED = Unobserved()
