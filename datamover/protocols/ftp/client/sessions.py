"""The logins at one destination: as many as are needed, and as the server allows."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as NoAnswer

from datamover import errors
from datamover.concurrency.threads import Threads
from datamover.concurrency.waiters import Waiters
from datamover.protocols.ftp.client.control import Control
from datamover.protocols.ftp.client.login import Server, log_in
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession

MOST = 32
"""Logins at a time, at most; [destinations] max_active bounds what needs one."""
AT_ONCE = 8
"""Connections that wait to be greeted at a time: pure-ftpd queues nine, and Linux never tells who was not queued."""
STALE = 10.0
"""Seconds without use after which a login is asked whether it is there still."""
KEPT = 50.0
"""Seconds without use after which a login is given up: servers do so after 60 at the least."""
LIMITED = 60.0
"""Seconds for which no more logins are tried than the server took."""
FAREWELL = 2.0
"""Seconds in which connections must have closed."""


class Sessions:
    """Lends logged-in sessions, each to one user at a time; the one that was used last is lent first."""

    def __init__(
        self, reactor: Any, server: Server, threads: Threads, logged_in: Callable[[FtpSession], object]
    ) -> None:
        """Prepare; ``logged_in`` is told of each new session."""
        self._reactor = reactor
        self._server = server
        self._threads = threads
        self._door = DeferredSemaphore(AT_ONCE)
        self._idle: list[FtpSession] = []
        self._controls: set[Control] = set()
        self._opened = 0
        """Logged in, or on the way."""
        self._most = MOST
        self._limited_at = 0.0
        self._changed: Waiters[None] = Waiters()
        self._attempts: set[Deferred[FtpSession]] = set()
        self._expiry: Any = None
        self._side: FtpSession | None = None
        self._died_at = -1.0
        """When a login was found to have ended: others may have ended with it, unless they were heard of since."""
        self._closed = False
        self._logged_in = logged_in

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[FtpSession]:
        """Lend a session within the block."""
        session = await self.take()
        try:
            yield session
        finally:
            self.give(session)

    async def take(self, *, wait: bool = True) -> FtpSession:
        """Return a session for its taker alone, who gives it back. Raises as ``log_in``.

        Where the server takes no further login, waits until one is given back, connect_timeout at most: RateLimited,
        which is raised at once without ``wait``.
        """
        while True:
            while self._idle:
                session = self._idle.pop()
                if await self._alive(session):
                    return session
            if self._closed:
                raise errors.ConnectionLost("it was closed while it was in use; the service is stopping")
            if self._opened < self._limit:
                try:
                    return await self._open()
                except errors.RateLimited:
                    while self._attempts and not self._established:
                        await self._wait()
                    if not self._established:
                        raise
                    self._most, self._limited_at = self._established, self._reactor.seconds()
            elif not wait:
                raise errors.RateLimited(f"{self._server.shown} takes no further login now")
            elif self._side is not None and self._side.control.quiet:
                # Whoever asks it meanwhile goes without.
                session, self._side = self._side, None
                if await self._alive(session):
                    return session
            else:
                await self._wait()

    def give(self, session: FtpSession) -> None:
        """Take a session back; one whose transfer is not over is kept once it is."""
        control = session.control
        if control.failure is None and not control.quiet:
            Deferred.fromCoroutine(self._settle(session))
            return
        if control.failure is not None:
            self._died()
            return
        self._returned(session)

    async def side(self) -> FtpSession | None:
        """Return a session that all may ask one short question now; None where the server takes no login more."""
        side = self._side
        if side is not None and side.control.failure is None:
            return side
        if self._side is not None:
            self._side = None
            self._died()
        if not self._idle and self._opened >= self._limit:
            return None
        try:
            taken = await self.take(wait=False)
        except errors.RateLimited:
            return None
        if self._side is not None:
            self.give(taken)
            return self._side
        self._side = taken
        return taken

    async def close(self) -> None:
        """Close every connection; completes when their sockets are gone. What still uses them meets ConnectionLost."""
        self._closed = True
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        for attempt in tuple(self._attempts):
            attempt.cancel()
        self._changed.wake(None)
        controls = tuple(self._controls)
        for control in controls:
            control.leave()
        self._idle.clear()
        for control in controls:
            gone: Deferred[None] = Deferred()
            control.gone.chainDeferred(gone)
            impatience = self._reactor.callLater(FAREWELL, control.transport.abortConnection)
            try:
                await gone
            finally:
                if impatience.active():
                    impatience.cancel()

    # ------------------------------------------------------------------------------------------------------------

    @property
    def _established(self) -> int:
        """How many are logged in."""
        return self._opened - len(self._attempts)

    @property
    def _limit(self) -> int:
        """How many logins there may be now: what the server refused is tried again after a while."""
        if self._reactor.seconds() - self._limited_at > LIMITED:
            self._most = MOST
        return self._most

    async def _open(self) -> FtpSession:
        self._opened += 1
        attempt = Deferred.fromCoroutine(
            log_in(self._reactor, self._server, self._threads, self._door, self._connected)
        )
        self._attempts.add(attempt)
        try:
            session = await attempt
        except BaseException:
            self._attempts.discard(attempt)
            self._dropped()
            if self._closed:
                raise errors.ConnectionLost("the connection was closed while it was made") from None
            raise
        self._attempts.discard(attempt)
        if self._closed:
            session.control.leave()
        self._logged_in(session)
        return session

    def _connected(self, control: Control) -> None:
        self._controls.add(control)
        control.gone.addCallback(lambda _: self._controls.discard(control))

    async def _alive(self, session: FtpSession) -> bool:
        control = session.control
        if control.failure is None and self._doubtful(session):
            try:
                await self._asked(session)
            except BaseException:
                self.give(session)
                raise
        if control.failure is not None:
            self._died()
            self._drop_idle()
        return control.failure is None

    async def _settle(self, session: FtpSession) -> None:
        """Take back a session whose transfer was given up, once the server answers what was asked behind it."""
        await self._asked(session)
        self._returned(session)

    async def _asked(self, session: FtpSession) -> None:
        """Ask whether a login is there still; its control has failed afterwards if it is not, or is out of step."""
        try:
            await session.ask("NOOP")
        except FtpRefusal as refusal:
            if not refusal.unsupported:
                session.control.fail(errors.ConnectionLost(f"the server answers NOOP with {refusal}"))
        except errors.DataMoverError:
            pass  # It is lost.

    def _drop_idle(self) -> None:
        """Close unused logins: they have been silent for as long as one that was found to be lost."""
        idle, self._idle = self._idle, []
        for session in idle:
            session.control.fail(errors.ConnectionLost("another connection to the server was lost"))
            self._dropped()

    def _doubtful(self, session: FtpSession) -> bool:
        """Whether a login is to be asked if it is there still, before anything depends on that."""
        control, unused = session.control, self._reactor.seconds() - session.idle_since
        return unused > STALE or control.heard_at <= self._died_at or control.spoken

    def _returned(self, session: FtpSession) -> None:
        if session.control.failure is not None or self._closed:
            self._died()
            return
        session.idle_since = self._reactor.seconds()
        self._idle.append(session)
        if self._expiry is None or not self._expiry.active():
            self._expiry = self._reactor.callLater(KEPT, self._expire)
        self._changed.wake(None)

    def _expire(self) -> None:
        """Give up what was not used for long; the list is in the order of use."""
        now = self._reactor.seconds()
        while self._idle and now - self._idle[0].idle_since >= KEPT:
            self._idle.pop(0).control.leave()
            self._dropped()
        if self._side is not None and not self._idle and self._opened == 1 and self._side.control.quiet:
            self._side.control.leave()
            self._side = None
            self._dropped()
        if self._idle or self._side is not None:
            wait = KEPT if not self._idle else max(KEPT - (now - self._idle[0].idle_since), 1.0)
            self._expiry = self._reactor.callLater(wait, self._expire)

    def _died(self) -> None:
        self._died_at = self._reactor.seconds()
        self._dropped()

    def _dropped(self) -> None:
        self._opened -= 1
        self._changed.wake(None)

    async def _wait(self) -> None:
        try:
            await self._changed.wait().addTimeout(self._server.connect_timeout, self._reactor)
        except NoAnswer:
            raise errors.RateLimited(
                f"{self._server.shown} takes no more than {self._most} logins at a time, and they are in use; lower "
                "max_active of the destination"
            ) from None
