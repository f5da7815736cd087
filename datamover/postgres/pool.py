"""The pool of connections: made when needed, reused, replaced when lost, and handed out to callers in order."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from datamover.errors import StartError, Unavailable
from datamover.postgres.admission import AccessRefused
from datamover.postgres.connection import PostgresConnection, Target
from datamover.postgres.failures import database_away
from datamover.postgres.hosts import Hosts

log = Logger()


class ConnectionPool:
    """At most ``size`` connections; callers beyond that wait in order.

    ``dsn`` is asked for the address before every new connection.
    """

    def __init__(self, reactor: Any, dsn: Callable[[], Awaitable[str]], size: int) -> None:
        self._reactor = reactor
        self._hosts = Hosts(reactor, dsn)
        self._free = size
        self._callers: deque[Deferred[None]] = deque()
        self._idle: list[PostgresConnection] = []
        self._connections: set[PostgresConnection] = set()
        self._away = False
        self._closed = False
        self.ready = False
        """Whether it has been opened and not closed; ``acquire`` raises Unavailable otherwise."""
        self.refused = False
        """Whether the database answered the last attempt to connect and refused the login."""

    @property
    def use(self) -> tuple[int, int]:
        """How many connections may still be used, and how many callers wait for one."""
        return self._free, len(self._callers)

    async def open(self) -> None:
        """Make the first connection. Raises Unavailable and StartError like ``connect``."""
        self._idle.append(await self.connect())
        self.ready = True

    def refuse(self) -> None:
        """Hand out no more connections; callers that wait get Unavailable."""
        self._closed = True
        self.ready = False
        self._fail_callers()

    def close(self) -> None:
        """Drop every connection."""
        self.refuse()
        for connection in list(self._connections):
            connection.close()
        self._idle.clear()

    async def acquire(self, *, new: bool = False) -> tuple[PostgresConnection, bool]:
        """Wait for one's turn; return a connection and whether it is a reused one, never if it must be ``new``.

        Raises Unavailable. Every connection must be given back by ``release``.
        """
        await self._wait()
        reused = None if new else self._take()
        try:
            return reused or await self.connect(), reused is not None
        except BaseException:
            self.release(None)
            raise

    def release(self, connection: PostgresConnection | None) -> None:
        """End one's turn; a connection that is not closed goes back to the pool."""
        if connection is not None:
            if connection.closed or self._closed:
                self._drop(connection)
            else:
                self._idle.append(connection)
        if self._callers:
            self._callers.popleft().callback(None)
        else:
            self._free += 1

    async def connect(self, on_notify: Callable[[str, str], None] | None = None) -> PostgresConnection:
        """Return a new connection, beyond the pool's size; ``on_notify`` as in ``PostgresConnection``.

        Raises Unavailable when no host can be reached, AccessRefused when the database refuses the login, and
        StartError, until the pool is ready, for a server that can never be used.
        """
        try:
            connection = await self._hosts.reach(lambda target: self._try(target, on_notify))
        except (Unavailable, StartError) as error:
            self._note_failure(error)
            if self.ready and isinstance(error, StartError | AccessRefused):
                raise database_away(error.full) from error
            raise
        if self._away:
            log.info("the database is back")
        self._away, self.refused = False, False
        return connection

    async def connect_listener(self, on_notify: Callable[[str, str], None]) -> PostgresConnection:
        """Return a new connection for a listener; raises CancelledError if the pool is closed."""
        if self._closed:
            raise CancelledError  # The listener was cancelled while it waited for nothing that could tell it so.
        return await self.connect(on_notify)

    async def _try(self, target: Target, on_notify: Callable[[str, str], None] | None) -> PostgresConnection:
        if self._closed:
            raise database_away()
        connection = PostgresConnection(self._reactor, on_notify)
        self._connections.add(connection)
        try:
            await connection.connect(target)
        except BaseException:
            self._drop(connection)
            raise
        return connection

    async def _wait(self) -> None:
        if not self.ready:
            raise database_away()
        if self._free > 0:
            self._free -= 1
            return
        caller: Deferred[None] = Deferred(self._callers.remove)
        self._callers.append(caller)
        await caller

    def _take(self) -> PostgresConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self._drop(connection)
        return None

    def _drop(self, connection: PostgresConnection) -> None:
        connection.close()
        self._connections.discard(connection)

    def _note_failure(self, error: StartError | Unavailable) -> None:
        """Log once that the database is away; fail the callers that wait if no connection is left for them."""
        refused = isinstance(error, AccessRefused)
        if self.ready and (not self._away or (refused and not self.refused)):
            self._away = True
            log.error("cannot connect: {reason}", reason=error.full)
        self.refused = refused
        if not any(not connection.closed for connection in self._connections):
            self._fail_callers()

    def _fail_callers(self) -> None:
        while self._callers:
            self._callers.popleft().errback(database_away())
