"""A bound for what a console's session shows and the terminal does not read.

A terminal that was stopped (Ctrl-S, a laptop that sleeps) keeps its connection. Beyond the bound nothing more is sent;
how much that was is told once the terminal reads again.
"""

from collections.abc import Callable

from datamover.bounds.console import MOST_UNREAD_OUTPUT


class Outlet:
    """What one session sends."""

    def __init__(self, send: Callable[[bytes], object], waits: Callable[[], bool]) -> None:
        """``waits`` returns whether something that was sent waits to be read."""
        self._send = send
        self._waits = waits
        self._sent = self._left_out = 0
        """Bytes since the terminal last had read everything."""

    def write(self, data: bytes) -> None:
        """Send bytes, or leave them out where too many wait."""
        if not self._waits():
            self.tell()
            self._sent = 0
        self._sent += len(data)
        if self._sent > MOST_UNREAD_OUTPUT:
            self._left_out += len(data)
        else:
            self._send(data)

    def tell(self) -> None:
        """Tell what was left out since this was last told."""
        if self._left_out:
            self._send(b"\r\n(%d bytes that were not read in time are left out)\r\n" % self._left_out)
            self._left_out = 0
