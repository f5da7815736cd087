"""A client that closes its connection, or its half of it."""

import select
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from datamover.bounds.door import CLOSED_CALL_SECONDS, CLOSED_LOOK_SECONDS


def has_closed(transport: Any) -> bool:
    """Return whether the other side has closed a connection or its half of it, even if received bytes are unread.

    See poll(2), POLLRDHUP.
    """
    while (below := getattr(transport, "transport", None)) is not None:
        transport = below  # The TCP connection below TLS.
    looking = select.poll()
    looking.register(transport.fileno(), select.POLLRDHUP)
    return bool(looking.poll(0))


@implementer(IHalfCloseableProtocol)
class ClosableChannel(HTTPChannel):
    """A channel that answers what has come whole when the client closes its half (``shutdown(2)``, as nc -N does)."""

    factory: Any
    transport: Any
    ended = False
    """Whether the client has said that it sends nothing more."""
    _receiving = True
    _look: IDelayedCall | None = None

    def readConnectionLost(self) -> None:  # noqa: N802 - Twisted's
        """End the connection when what has come whole is answered, and at the latest in ``CLOSED_CALL_SECONDS``."""
        if self.ended:
            return
        self.ended = True
        self._stop_looking()
        self._look = self.factory.reactor.callLater(CLOSED_CALL_SECONDS, self._give_up)
        self._go_on()

    def writeConnectionLost(self) -> None:  # noqa: N802 - Twisted's
        """Do nothing: it was this side that closed its half."""

    def _go_on(self) -> None:
        raise NotImplementedError

    def _give_up(self) -> None:
        if self._handlingRequest:
            self.transport.loseConnection()

    def _look_later(self) -> None:
        if self._look is None or not self._look.active():
            self._look = self.factory.reactor.callLater(CLOSED_LOOK_SECONDS, self._look_after_client)

    def _look_after_client(self) -> None:
        """Drop the connection if the client has closed it: a paused transport does not notice that."""
        if self._receiving:
            return
        if has_closed(self.transport):
            self.transport.abortConnection()
        else:
            self._look_later()

    def _stop_looking(self) -> None:
        if self._look is not None and self._look.active():
            self._look.cancel()
