"""One transfer over a data connection, and what the server says of it over the control connection."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover import errors
from datamover.concurrency.waiters import Waiters
from datamover.protocols.ftp.client.control import Control, again, checked
from datamover.protocols.ftp.client.data import Data, Receiving, Sending
from datamover.protocols.ftp.client.replies import Reply

GRACE = 1.0
"""Seconds that a server has to say why it made no data connection."""
UNTOLD = 2.0
"""Seconds after which a server that has the data connection of an upload is sent it, though it says nothing."""
ANSWER = 5.0
"""Seconds that a server has to say why it ended a data connection before it had all: some never do."""


class Moving:
    """One transfer over a data connection; it has ended when the server says so, not when the connection ends."""

    def __init__(self, clock: Any, control: Control, data: Data, command: str) -> None:
        self._clock = clock
        self._control = control
        self._command = command
        self._reply: Reply | Failure | None = None
        self._unreached: Failure | None = None
        self._grace: Any = None
        self._waiting = Waiters[None]()
        self.data = data
        data.moved.addCallback(self._untold)
        self.began: Deferred[None] = Deferred()
        """Fires when the server has begun, or has ended it."""
        self.unexplained = False
        """Whether the server closed the data connection before it had all, and says nothing of it."""

    def begin(self, _: object = None) -> None:
        """Take note that the server has begun."""
        self._no_grace()
        if not self.began.called:
            self.began.callback(None)

    def _untold(self, _: object = None) -> None:
        """Take note that it has begun, though the server has not said so (RFC 959 5.4 has it say 125 or 150)."""
        if not self.began.called:
            self._control.move()
            self.begin()

    def reached(self, patience: float) -> None:
        """Take note of the data connection: what is to be sent over it is not kept back for longer than ``patience``.

        What is to be received begins when it comes.
        """
        if isinstance(self.data, Sending) and not self.began.called:
            self._grace = self._clock.callLater(patience, self._untold)

    def unreached(self, failure: Failure) -> None:
        """Take note that there is no data connection.

        A server that refuses resets it, and says so right after; others wait for it before they say anything.
        """
        self._unreached = failure
        if not self.began.called:
            self._grace = self._clock.callLater(GRACE, self.begin)

    def check(self) -> None:
        """Raise what kept the data connection from being made."""
        if self._unreached is not None:
            self._unreached.raiseException()

    def follow(self, answer: Deferred[Reply]) -> None:
        """Take the server's last word from ``answer``."""
        answer.addBoth(self._answered)

    def _answered(self, reply: Reply | Failure) -> None:
        self._reply = reply
        if isinstance(reply, Failure) or not reply.positive:
            stalled = isinstance(reply, Failure) and isinstance(reply.value, errors.Stalled)
            self.unexplained = stalled and isinstance(self.data, Sending) and self.data.cut_off
            self.data.abort()
        elif isinstance(self.data, Receiving):
            self.data.all_sent()
        self.begin()
        self._waiting.wake(None)

    @property
    def over(self) -> bool:
        """Whether the server has had its last word on it."""
        return self._reply is not None

    async def end(self) -> Reply:
        """Wait for the server's last word, which is due now.

        Raises FtpRefusal where that is negative, and TLSFailed where the data connection's certificate is not valid.
        """
        if self._reply is None:
            self._control.expect()
            self.data.gone.addCallback(self._gone)
            await self._waiting.wait()
        if isinstance(self.data.reason, errors.DataMoverError):
            raise again(self.data.reason)
        reply = self._reply
        if isinstance(reply, Failure):
            reply.raiseException()
        assert isinstance(reply, Reply)
        return checked(reply, self._command)

    def _gone(self, _: object) -> None:
        """Have the server's word soon where it closed the data connection before it had all."""
        if self._reply is None and isinstance(self.data, Sending) and self.data.cut_off:
            self._control.expect(ANSWER)

    def _no_grace(self) -> None:
        if self._grace is not None and self._grace.active():
            self._grace.cancel()

    def close(self) -> None:
        """Release the data connection, and ignore the server's reply."""
        self._no_grace()
        if isinstance(self.data, Sending) and self.over and not self.data.ended:
            self.data.leave()
        else:
            self.data.abort()
        if not self.over:
            self._control.expect()
