"""The database as the rest of the service sees it: transactions, notifications, and whether it is there.

A pool of connections that heals by itself: a lost one is replaced when it is next needed, and whoever met the loss is
told Unavailable. Transactions that the server ended to serialise them are run again. The single connection is
connection.py's matter, the tables are migrate.py's, the statements the store's.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.concurrency.loops import Loops
from datamover.errors import NotNow, StartError, Unavailable
from datamover.postgres.admission import AccessRefused
from datamover.postgres.connection import AWAY, Kind, Parameters, PostgresConnection, Row, Target
from datamover.postgres.cursor import Cursor
from datamover.postgres.hosts import Hosts
from datamover.postgres.listening import Listening, persist
from datamover.postgres.values import Json

__all__ = ["Cursor", "Database", "Json", "Listening", "Parameters", "Row"]

log = Logger()
Result = TypeVar("Result")

ROUNDS = 6
"""How often a transaction is run before its conflicts with others are reported."""


class Database:
    """A pool of at most ``connections`` connections, made when needed; callers beyond that wait in order.

    ``dsn`` is asked before every new connection.
    """

    def __init__(
        self, reactor: Any, dsn: Callable[[], Awaitable[str]], connections: int, loops: Loops | None = None
    ) -> None:
        self._reactor = reactor
        self._dsn = dsn
        self._hosts = Hosts(reactor, dsn)
        self._loops = loops or Loops(reactor)
        self._free = connections
        self._callers: deque[Deferred[None]] = deque()
        self._idle: list[PostgresConnection] = []
        self._connections: set[PostgresConnection] = set()
        self._tasks: set[Deferred[Any]] = set()
        self._ready = False
        self._away = False
        self._refused = False
        self._closed = False
        self._failure: StartError | None = None
        self._openings: list[Deferred[None]] = []

    @property
    def ready(self) -> bool:
        """Whether it has been opened; before that every call raises Unavailable at once."""
        return self._ready

    @property
    def refuses(self) -> bool:
        """Whether the database, when it was last asked, was there and did not let us in."""
        return self._refused

    @property
    def use(self) -> tuple[int, int]:
        """How many connections may still be used, and how many callers wait for one."""
        return self._free, len(self._callers)

    # Opening and closing --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect once. Raises Unavailable when it cannot be reached, StartError when it can never do."""
        self._idle.append(await self._connect())
        self._ready = True

    def start(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        """Open in the background, trying again until it works; ``prepare`` (migrations) runs once before the others.

        ``prepare`` is given a database of its own; see ``opened`` for the outcome.
        """
        self._spawn(self._keep_starting(prepare))

    async def opened(self) -> None:
        """Complete when the database is ready; raise StartError where that keeps it from ever being."""
        if self._failure is not None:
            raise self._failure
        if not self._ready:
            waiter: Deferred[None] = Deferred(self._openings.remove)
            self._openings.append(waiter)
            await waiter

    async def close(self) -> None:
        """Drop every connection and end every loop; completes when they are gone. Callers get Unavailable."""
        self._closed = True
        self._ready = False
        for task in list(self._tasks):
            task.cancel()
        while self._callers:
            self._callers.popleft().errback(Unavailable(AWAY))
        openings, self._openings = self._openings, []
        for opening in openings:
            opening.errback(Unavailable(AWAY))
        for connection in list(self._connections):
            connection.close()
        self._idle.clear()
        for task in list(self._tasks):
            await task

    async def _keep_starting(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        await self._loops.loop("database", bound=None).start(partial(self._start, prepare))

    async def _start(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        try:
            await persist(self._reactor, lambda: self._prepare(prepare))
        except StartError as error:  # Those who wait are to be told.
            self._failure = error
        openings, self._openings = self._openings, []
        for opening in openings:
            if self._failure is None:
                opening.callback(None)
            else:
                opening.errback(self._failure)

    async def _prepare(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        self._refused = False
        first = Database(self._reactor, self._dsn, 1)
        try:
            await first.open()
            await prepare(first)
        except AccessRefused:
            self._refused = True
            raise
        finally:
            await first.close()
        await self.open()

    def _spawn(self, coroutine: Any) -> Deferred[Any]:
        """Run ``coroutine`` in the background until it ends or the database is closed."""
        task = Deferred.fromCoroutine(coroutine)
        self._tasks.add(task)

        def ended(result: Any) -> None:
            self._tasks.discard(task)
            if hasattr(result, "check") and not result.check(CancelledError):
                log.failure("a task of the database ended", result)

        task.addBoth(ended)
        return task

    # Transactions ---------------------------------------------------------------------------------------------

    async def transaction(self, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        """Run ``work`` in a transaction and return its value; committed once it has returned, else rolled back.

        ``work`` is run again, from its start, when the server ends the transaction in favour of another. Raises what
        ``work`` raises, psycopg2's errors for what its statements did wrong, NotNow for what the server does not do
        now, and Unavailable when the database is away: nothing was stored then, unless the message says that this is
        not known. Cancelling stops at once and rolls back.
        """
        return await self._transaction(Kind.SEVERAL, work)

    async def read(self, sql: str, params: Parameters = None) -> list[Row]:
        """Run one statement that changes nothing, and return its rows; raises what ``transaction`` does."""
        return await self._transaction(Kind.READ, lambda cursor: cursor.fetch(sql, params))

    async def fetch(self, sql: str, params: Parameters = None, behind: str | None = None) -> list[Row]:
        """Run one statement, which is a transaction by itself, and return its rows; raises what ``transaction`` does.

        ``behind``: another of the same transaction, done before it: a lock that the server lets go of by itself,
        however long this process stands still.

        Where the connection is lost before the server has answered, it is not known whether anything was stored.
        Cancelling lets go of the answer: the statement runs to its end all the same.
        """
        return await self._transaction(Kind.CHANGE, lambda cursor: cursor.fetch(sql, params, behind))

    async def fetch_one(self, sql: str, params: Parameters = None) -> Row | None:
        """Run one statement like ``fetch``, and return its first row, None where there is none."""
        return await self._transaction(Kind.CHANGE, lambda cursor: cursor.fetch_one(sql, params))

    async def execute(self, sql: str, params: Parameters = None) -> None:
        """Run one statement like ``fetch``, and forget its rows."""
        await self._transaction(Kind.CHANGE, lambda cursor: cursor.execute(sql, params))

    async def _transaction(self, kind: Kind, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        for turn in range(1, ROUNDS + 1):
            try:
                return await self._attempt(kind, work)
            except psycopg2.extensions.TransactionRollbackError as error:
                if turn == ROUNDS:
                    raise NotNow("the database is too busy: try again; nothing was stored") from error
            await deferLater(self._reactor, 0.01 * 2**turn)
        raise AssertionError("not reached")

    async def _attempt(self, kind: Kind, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        connection, reused = await self._begin(kind)
        try:
            return await self._run(connection, work)
        except Unavailable:  # Of one that died in the pool nothing was done: a new one does as well.
            if connection.begun or not (reused and connection.closed):
                raise
        return await self._run((await self._begin(kind, new=True))[0], work)

    async def _run(self, connection: PostgresConnection, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        try:
            result = await work(Cursor(connection))
            await connection.commit()
        except CancelledError:
            self._spawn(self._recycle(connection))
            raise
        except Exception:  # whatever it is, the connection comes back clean
            await self._recycle(connection)
            raise
        self._release(connection)
        return result

    async def _begin(self, kind: Kind, *, new: bool = False) -> tuple[PostgresConnection, bool]:
        """Return a connection that begins a transaction with its next statement, and whether it is from the pool."""
        await self._wait()
        reused = None if new else self._take()
        try:
            connection = reused or await self._connect()
        except BaseException:
            self._release(None)
            raise
        connection.begin(kind)
        return connection, reused is not None

    async def _recycle(self, connection: PostgresConnection) -> None:
        """Put a connection back once what is left of its transaction is gone."""
        try:
            await connection.settle()
        except BaseException:
            connection.close()
            raise
        finally:
            self._release(connection)

    # The pool -------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Wait for one's turn to hold a connection."""
        if not self._ready:
            raise Unavailable(AWAY)
        if self._free > 0:
            self._free -= 1
            return
        caller: Deferred[None] = Deferred(self._callers.remove)
        self._callers.append(caller)
        await caller

    def _release(self, connection: PostgresConnection | None) -> None:
        """End one's turn; a connection that is still good goes back to the pool."""
        if connection is not None:
            if connection.closed or self._closed:
                self._drop(connection)
            else:
                self._idle.append(connection)
        if self._callers:
            self._callers.popleft().callback(None)
        else:
            self._free += 1

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

    async def _connect(self, on_notify: Callable[[str, str], None] | None = None) -> PostgresConnection:
        async def attempt(target: Target) -> PostgresConnection:
            if self._closed:
                raise Unavailable(AWAY)
            connection = PostgresConnection(self._reactor, on_notify)
            self._connections.add(connection)
            try:
                await connection.connect(target)
            except BaseException:
                self._drop(connection)
                raise
            return connection

        try:
            connection = await self._hosts.reach(attempt)
        except (Unavailable, StartError) as error:
            self._gone(error)
            if self._ready and isinstance(error, StartError | AccessRefused):
                raise Unavailable(f"{AWAY} ({error.message})") from error
            raise
        if self._away:
            log.info("the database is back")
        self._away, self._refused = False, False
        return connection

    async def _connect_listener(self, on_notify: Callable[[str, str], None]) -> PostgresConnection:
        if self._closed:
            raise CancelledError  # whose word may have come while the listener was not waiting for anything
        return await self._connect(on_notify)

    def _gone(self, error: StartError | Unavailable) -> None:
        """Say once that the database is away, and tell all who wait for a turn: theirs would fail as well."""
        refused = isinstance(error, AccessRefused)
        if self._ready and (not self._away or (refused and not self._refused)):
            self._away = True
            log.error("cannot connect: {reason}", reason=error.message)
        self._refused = refused
        if any(not connection.closed for connection in self._connections):
            return
        while self._callers:
            self._callers.popleft().errback(Unavailable(AWAY))

    # Notifications --------------------------------------------------------------------------------------------

    async def listen(
        self, channel: str, callback: Callable[[str], None], on_listening: Callable[[], None] | None = None
    ) -> Listening:
        """Call ``callback`` with the payload of every notification on ``channel``, over a connection of its own.

        Completes when listening has begun. A lost connection is replaced until the database, or what is returned,
        is closed; notifications sent meanwhile are lost, so ``on_listening`` is called each time listening begins,
        for the caller to look for itself.
        """
        loop = self._loops.loop("listener", bound=None)
        listening = Listening(self._reactor, self._connect_listener, channel, callback, on_listening, loop)
        listening.task = self._spawn(listening.run())
        try:
            await listening.begun
        except CancelledError:
            await listening.close()
            raise
        return listening
