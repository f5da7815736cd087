"""How long a client may take, and whether a body comes fast enough. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a client may take, in seconds."""

    idle: float = 60.0
    """For a connection to wait for its next request."""
    head: float = 15.0
    """For a request's line and headers; the first one's, the TLS handshake included."""
    silence: float = 30.0
    """Between two pieces of a body."""
    window: float = 30.0
    """In each of these a body has to bring …"""
    slowest: int = 10_000
    """… so many bytes a second, whatever it brought before."""
    stranger: float = 30.0
    """For the whole of a body that is thrown away, of one who has not logged in."""
    linger: float = 2.0
    """That a refused connection is listened to."""


class BodyPace:
    """How fast one body comes."""

    def __init__(self, pace: Pace, now: float) -> None:
        self._pace = pace
        self._began = self._window = self._last = now
        self._size = 0
        self._waited = False
        self.stranger = False
        """Nobody has said who sends this."""

    def came(self, size: int, now: float) -> None:
        """Count bytes that came."""
        self._size += size
        self._last = now

    def waited(self) -> None:
        """Take note that it was not read for a while: what does not come meanwhile is not its sender's fault."""
        self._waited = True

    def left(self, now: float) -> float:
        """Return the seconds until it is to be looked at again, 0 where it is too slow."""
        pace = self._pace
        if now >= self._window + pace.window:
            if self._size < pace.slowest * pace.window and not self._waited:
                return 0.0
            self._window, self._size, self._waited = now, 0, False
        ends = min(self._window + pace.window, self._last + pace.silence)
        if self.stranger:
            ends = min(ends, self._began + pace.stranger)
        return max(0.0, ends - now)
