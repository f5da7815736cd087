"""The time limits of a connection and the minimum rate of a body. Pure."""

from dataclasses import dataclass

from datamover.bounds.door import (
    BODY_SILENCE,
    BODY_WINDOW,
    DISCARDED_BODY_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    LINGER_SECONDS,
    SLOWEST_BODY,
)


@dataclass(frozen=True, slots=True)
class ConnectionTimeouts:
    """The time limits of a connection, in seconds."""

    idle: float = IDLE_SECONDS
    """Between two requests."""
    head: float = HEAD_SECONDS
    """For the request line and headers; for the first request it includes the TLS handshake."""
    silence: float = BODY_SILENCE
    """Between two pieces of a body."""
    window: float = BODY_WINDOW
    """The period over which a body's rate is measured."""
    slowest: int = SLOWEST_BODY
    """The minimum rate in each window, in bytes a second; what came before the window does not count."""
    stranger: float = DISCARDED_BODY_SECONDS
    """For a whole body that is thrown away because its sender has not logged in."""
    linger: float = LINGER_SECONDS
    """For reading on after a refusal."""


class BodyPace:
    """The rate at which one body comes."""

    def __init__(self, pace: ConnectionTimeouts, now: float) -> None:
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
