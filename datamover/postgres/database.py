"""The database as the rest of the service uses it: transactions, notifications, and whether it is ready.

A lost connection is replaced when one is next needed; the caller that met the loss gets Unavailable. Transactions that
the server rolls back because they conflict with others are run again.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.loops import Loops
from datamover.concurrency.waiters import Waiters
from datamover.errors import NotNow, StartError, Unavailable
from datamover.postgres.admission import AccessRefused
from datamover.postgres.connection import Parameters, PostgresConnection, Row, TransactionKind
from datamover.postgres.cursor import Cursor
from datamover.postgres.failures import BUSY, database_away
from datamover.postgres.listening import Listening, persist
from datamover.postgres.pool import ConnectionPool
from datamover.postgres.values import Json

__all__ = ["Cursor", "Database", "Json", "Listening", "Parameters", "Row"]

log = Logger()
Result = TypeVar("Result")

ROUNDS = 6
"""How often a transaction that conflicts with others is run before NotNow is raised."""


class Database:
    """Transactions over a pool of at most ``connections`` connections; callers beyond that wait in order.

    ``dsn`` is asked for the address before every new connection.
    """

    def __init__(
        self, reactor: Any, dsn: Callable[[], Awaitable[str]], connections: int, loops: Loops | None = None
    ) -> None:
        self._reactor = reactor
        self._dsn = dsn
        self._pool = ConnectionPool(reactor, dsn, connections)
        self._loops = loops or Loops(reactor)
        self._tasks: set[Deferred[Any]] = set()
        self._failure: StartError | None = None
        self._opening: Waiters[None] = Waiters()

    @property
    def ready(self) -> bool:
        """Whether it has been opened; until then every call raises Unavailable at once."""
        return self._pool.ready

    @property
    def refuses(self) -> bool:
        """Whether the database answered the last attempt to connect and refused the login."""
        return self._pool.refused

    @property
    def use(self) -> tuple[int, int]:
        """How many connections may still be used, and how many callers wait for one."""
        return self._pool.use

    # Opening and closing --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect once. Raises Unavailable if it cannot be reached, StartError if it can never be used."""
        await self._pool.open()

    def start(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        """Open in the background, trying again until it works. ``prepare`` (migrations) runs before that.

        ``prepare`` is given a database of its own. ``opened`` tells the outcome.
        """
        self._spawn(self._keep_starting(prepare))

    async def opened(self) -> None:
        """Complete when the database is ready; raises the StartError that keeps it from ever being ready."""
        if self._failure is not None:
            raise self._failure
        if not self.ready:
            await self._opening.wait()

    async def close(self) -> None:
        """Drop every connection and end every loop; completes when they are gone. Callers get Unavailable."""
        self._pool.refuse()
        for task in list(self._tasks):
            task.cancel()
        self._opening.wake(Failure(database_away()))  # type: ignore[no-untyped-call]
        self._pool.close()
        for task in list(self._tasks):
            await task

    async def _keep_starting(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        await self._loops.loop("database", bound=None).start(partial(self._start, prepare))

    async def _start(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        try:
            await persist(self._reactor, lambda: self._prepare(prepare))
        except StartError as error:  # Raised to the callers of ``opened``.
            self._failure = error
        self._opening.wake(None if self._failure is None else Failure(self._failure))  # type: ignore[no-untyped-call]

    async def _prepare(self, prepare: Callable[["Database"], Awaitable[None]]) -> None:
        self._pool.refused = False
        first = Database(self._reactor, self._dsn, 1)
        try:
            await first.open()
            await prepare(first)
        except AccessRefused:
            self._pool.refused = True
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
                log.failure("a background task of the database failed", result)

        task.addBoth(ended)
        return task

    # Transactions ---------------------------------------------------------------------------------------------

    async def transaction(self, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        """Run ``work`` in a transaction and return its value; commit if it returns, roll back if it raises.

        ``work`` is run again, from its start, if the server rolls the transaction back in favour of another. Raises
        what ``work`` raises, psycopg2's errors for statements that fail, NotNow for what the server cannot do now, and
        Unavailable while the database is away: nothing was stored then, unless the message says that this is unknown.
        Cancelling stops at once and rolls back.
        """
        return await self._transaction(TransactionKind.SEVERAL, work)

    async def read(self, sql: str, params: Parameters = None) -> list[Row]:
        """Run one statement that changes nothing and return its rows; raises what ``transaction`` raises."""
        return await self._transaction(TransactionKind.READ, lambda cursor: cursor.fetch(sql, params))

    async def fetch(self, sql: str, params: Parameters = None, behind: str | None = None) -> list[Row]:
        """Run one statement as a transaction and return its rows; raises what ``transaction`` raises.

        ``behind`` is a statement that runs before it in the same transaction, such as one that takes a lock: the server
        releases it by itself, even if this process hangs.

        If the connection is lost before the server has answered, it is unknown whether anything was stored. Cancelling
        only stops the waiting: the statement runs to its end.
        """
        return await self._transaction(TransactionKind.CHANGE, lambda cursor: cursor.fetch(sql, params, behind))

    async def fetch_one(self, sql: str, params: Parameters = None) -> Row | None:
        """Run one statement like ``fetch`` and return its first row, None if there is none."""
        return await self._transaction(TransactionKind.CHANGE, lambda cursor: cursor.fetch_one(sql, params))

    async def execute(self, sql: str, params: Parameters = None) -> None:
        """Run one statement like ``fetch`` and ignore its rows."""
        await self._transaction(TransactionKind.CHANGE, lambda cursor: cursor.execute(sql, params))

    async def _transaction(self, kind: TransactionKind, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        for turn in range(1, ROUNDS + 1):
            try:
                return await self._attempt(kind, work)
            except psycopg2.extensions.TransactionRollbackError as error:
                if turn == ROUNDS:
                    raise NotNow(BUSY) from error
            await deferLater(self._reactor, 0.01 * 2**turn)
        raise AssertionError("not reached")

    async def _attempt(self, kind: TransactionKind, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        connection, reused = await self._pool.acquire()
        connection.begin(kind)
        try:
            return await self._run(connection, work)
        except Unavailable:  # A reused connection that died in the pool has run nothing: try with a new one.
            if connection.begun or not (reused and connection.closed):
                raise
        connection, _ = await self._pool.acquire(new=True)
        connection.begin(kind)
        return await self._run(connection, work)

    async def _run(self, connection: PostgresConnection, work: Callable[[Cursor], Awaitable[Result]]) -> Result:
        try:
            result = await work(Cursor(connection))
            await connection.commit()
        except CancelledError:
            self._spawn(self._recycle(connection))
            raise
        except Exception:  # Whatever the error, the connection must be clean when it goes back to the pool.
            await self._recycle(connection)
            raise
        self._pool.release(connection)
        return result

    async def _recycle(self, connection: PostgresConnection) -> None:
        """Roll back and give the connection back to the pool."""
        try:
            await connection.settle()
        except BaseException:
            connection.close()
            raise
        finally:
            self._pool.release(connection)

    # Notifications --------------------------------------------------------------------------------------------

    async def listen(
        self, channel: str, callback: Callable[[str], None], on_listening: Callable[[], None] | None = None
    ) -> Listening:
        """Call ``callback`` with the payload of every notification on ``channel``, over a connection of its own.

        Completes when listening has begun. A lost connection is replaced until the database, or the returned object,
        is closed. Notifications that are sent meanwhile are lost; so ``on_listening`` is called each time listening
        begins, for the caller to poll.
        """
        loop = self._loops.loop("listener", bound=None)
        listening = Listening(self._reactor, self._pool.connect_listener, channel, callback, on_listening, loop)
        listening.task = self._spawn(listening.run())
        try:
            await listening.begun
        except CancelledError:
            await listening.close()
            raise
        return listening
