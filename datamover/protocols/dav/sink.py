"""One part file that is sent by one PUT while it arrives; it exists once the server has received all of it."""

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from datamover.concurrency.waiters import Waiters
from datamover.errors import ConnectionLost, DataMoverError
from datamover.protocols.base import Lack, Octets
from datamover.protocols.http.request_body import SLICE


@implementer(IBodyProducer)
class FedBody:
    """The body of a request, fed while it is sent. It can be sent again until its first byte was sent."""

    repeatable = True

    def __init__(self, length: int | None) -> None:
        """``length`` is in bytes; None: unknown, it is sent in HTTP's chunks."""
        self.length = UNKNOWN_LENGTH if length is None else length
        self.begun = False
        """Bytes were sent."""
        self.size: int | None = None
        """Bytes of all of it, once all were given to the connection."""
        self._fed = 0
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred()
        self._paused = False
        self._whole = False
        self._given_up = False
        self._changed: Waiters[None] = Waiters()

    async def feed(self, data: Octets) -> bool:
        """Send bytes when the connection takes more; return whether they were sent."""
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            while (self._consumer is None or self._paused) and not self._given_up:
                await self._changed.wait()
            if self._given_up or self._consumer is None:
                return False
            self.begun = True
            self._fed += min(SLICE, len(view) - start)
            self._consumer.write(view[start : start + SLICE])  # type: ignore[arg-type]
        return True

    def end(self) -> None:
        """End the body."""
        self._whole = True
        self.size = self._fed
        if self._consumer is not None and not self._done.called:
            self._done.callback(None)

    def give_up(self) -> None:
        """Stop the body before its end."""
        self._given_up = True
        self._changed.wake(None)

    # For the connection ---------------------------------------------------------------------------------------

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802
        if self.begun:
            return fail(ConnectionLost("the connection broke while a file was sent"))
        self._consumer, self._paused, self._done = consumer, False, Deferred()
        self._changed.wake(None)
        return succeed(None) if self._whole else self._done

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        self._paused = False
        self._changed.wake(None)

    def stopProducing(self) -> None:  # noqa: N802
        self._consumer = None
        if self.begun:
            self.give_up()


class DavSink:
    """``part_files.seam.PartFileSink`` of one PUT."""

    doubtful = False
    watched = True

    def __init__(
        self,
        body: FedBody,
        sending: Awaitable[None],
        look: Callable[[], Awaitable[tuple[int, Sequence[Lack]]]],
        early: DataMoverError,
    ) -> None:
        """Feed ``body``, which ``sending`` sends; ``look`` returns the stored size, and what could not be done.

        ``early`` is raised if the server answers with success before all was sent.
        """
        self.without: Sequence[Lack] = ()
        self._body = body
        self._look = look
        self._early = early
        self._error: Exception | None = None
        self._over = False
        self._ended: Waiters[None] = Waiters()
        self._sending = Deferred.fromCoroutine(self._send(sending))

    async def write(self, data: Octets) -> None:
        if not data:
            return
        if not await self._body.feed(data):
            await self._sent()
            raise self._early

    async def flush(self) -> int:
        """Return 0: the server stores nothing of a file before it has all of it."""
        return 0

    async def finish(self, *, modified: float | None) -> int:
        """End the file, whose time was sent in the request's head; return the size that the server reports."""
        self._body.end()
        await self._sent()
        size, self.without = await self._look()
        return size

    async def close(self) -> None:
        if not self._over:
            self._sending.cancel()
            await self._wait()

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except Exception as error:  # Whoever writes, or ends the file, raises it.
            self._error = error
        self._over = True
        self._body.give_up()
        self._ended.wake(None)

    async def _sent(self) -> None:
        """Wait for the server's answer; raises its refusal."""
        await self._wait()
        if self._error is not None:
            raise self._error

    async def _wait(self) -> None:
        if not self._over:
            await self._ended.wait()
