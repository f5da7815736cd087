"""The time limits of a connection and the minimum rate of a body. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """The time limits of a connection, in seconds."""

    idle: float = 60.0
    """Between two requests."""
    head: float = 15.0
    """For the request line and headers; for the first request it includes the TLS handshake."""
    silence: float = 30.0
    """Between two pieces of a body."""
    window: float = 30.0
    """The period over which a body's rate is measured."""
    slowest: int = 10_000
    """The minimum rate in each window, in bytes a second; what came before the window does not count."""
    stranger: float = 30.0
    """For a whole body that is thrown away because its sender has not logged in."""
    linger: float = 2.0
    """For reading on after a refusal."""


class BodyPace:
    """The rate at which one body comes."""

    def __init__(self, pace: Pace, now: float) -> None:
        self._pace = pace
        self._began = self._window = self._last = now
        self._size = 0
        self._waited = False
        self.stranger = False
        """Whether the sender has not logged in."""

    def came(self, size: int, now: float) -> None:
        """Count bytes that came."""
        self._size += size
        self._last = now

    def waited(self) -> None:
        """Excuse the current window: the service did not read the body, so its sender was not slow."""
        self._waited = True

    def left(self, now: float) -> float:
        """Return the seconds until the next check, 0 if the body is too slow."""
        pace = self._pace
        if now >= self._window + pace.window:
            if self._size < pace.slowest * pace.window and not self._waited:
                return 0.0
            self._window, self._size, self._waited = now, 0, False
        ends = min(self._window + pace.window, self._last + pace.silence)
        if self.stranger:
            ends = min(ends, self._began + pace.stranger)
        return max(0.0, ends - now)
