"""One connection to PostgreSQL, with the faults of txpostgres and psycopg2 corrected.

- A session that can only read is closed: another server is the one that writes.
- The end of an idle connection is noticed before it is used again, reported once, and raises nothing into the reactor
  (``driver``).
- Cancelling a caller leaves its statement running to its end, for which ``settle`` waits.
- A statement that exceeds its time limit, or that the server never answers, is an error, not a cancellation.
- COMMIT of a failed transaction is an error, not a silent rollback.

``pool`` hands connections out; ``database`` decides what is tried again.
"""

import select
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, cast

import psycopg2
import psycopg2.extensions
from psycopg2.errors import InFailedSqlTransaction, ReadOnlySqlTransaction
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.errors import NotNow, StartError, Unavailable
from datamover.postgres import session
from datamover.postgres.driver import DriverConnection, is_ready
from datamover.postgres.failures import ONLY_READS, SLOW, database_away, meaning
from datamover.postgres.named_queries import Prepared
from datamover.postgres.values import BYTES, Json

Row = dict[str, Any]
Parameters = Mapping[str, Any] | Sequence[Any] | None
Target = dict[str, str]
"""libpq's parameters for one host, with its name resolved (``hosts``)."""

ANSWER_TIMEOUT = 35.0
"""Seconds after which a connection is dropped because its server has neither finished nor cancelled a statement."""
OLDEST = 14
"""The oldest major version of PostgreSQL that queries.sql works with."""

_BEGIN = b"BEGIN"
_SEPARATOR = b"\n;\n"
_SLICE = 2000
"""Rows that are converted between two turns of the reactor."""


class TransactionKind(Enum):
    """The kinds of transactions."""

    SEVERAL = "several"
    """BEGIN, statements and COMMIT."""
    CHANGE = "change"
    """One statement that the server commits by itself: one round trip."""
    READ = "read"
    """One statement that changes nothing, and may be run again."""


class PostgresConnection:
    """A connection, for one caller at a time."""

    def __init__(self, reactor: Any, on_notify: Callable[[str, str], None] | None = None) -> None:
        self._reactor = reactor
        self._link = DriverConnection(reactor, on_notify, self._lost)
        self._statement: Deferred[Any] | None = None
        self._ended: Waiters[None] = Waiters()
        self._prepared: set[str] = set()
        self._ahead: list[bytes] = []
        """Statements that are sent together with the next one, as text."""
        self._kind = TransactionKind.SEVERAL
        self._endless = False
        self.begun = False
        """Whether a statement of the current transaction may have been executed."""

    async def connect(self, target: Target) -> None:
        """Connect and set the session up; cancelling drops the connection.

        Raises the errors of psycopg2 and of sockets if it cannot connect, Unavailable for a server that only reads, and
        StartError for one that can never be used.
        """
        try:
            await self._connect(target)
        except BaseException:
            self.close()
            raise

    async def _connect(self, target: Target) -> None:
        await _shield(self._link.connect(**{**session.NETWORK, **target, "client_encoding": "utf8"}))
        if (major := self._link.server_version // 10_000) < OLDEST:
            raise StartError(f"the database is PostgreSQL {major}: datamover needs {OLDEST} or newer")
        if (encoding := self._link.get_parameter_status("server_encoding")) != "UTF8":
            raise StartError(
                f"the database's encoding is {encoding}: create it with ENCODING 'UTF8' TEMPLATE template0"
            )
        psycopg2.extensions.register_type(BYTES, self._link.pollable())
        (told,) = await self.fetch(session.SET_UP, session.LIMITS)
        if told["read_only"] == "on":
            raise database_away(ONLY_READS)

    @property
    def closed(self) -> bool:
        return self._link.pollable() is None or bool(self._link.pollable().closed)

    @property
    def usable(self) -> bool:
        """Whether an idle connection can be used; data that waits to be read can only mean that it was ended."""
        return not self.closed and not is_ready(self._link.pollable().fileno(), select.POLLIN)

    def close(self) -> None:
        """Close the connection at once, even while a statement runs."""
        self._link.close()

    async def wait_for_end(self) -> None:
        """Complete when the connection is closed; cancelling only stops the waiting."""
        if not self.closed:
            await self._ended.wait()

    def _lost(self) -> None:
        self._ended.wake(None)

    def begin(self, kind: TransactionKind) -> None:
        """Start a transaction: BEGIN is sent together with the next statement.

        For the kinds that are a single statement there is no BEGIN: the server commits it by itself.
        """
        self._ahead = [_BEGIN] if kind is TransactionKind.SEVERAL else []
        self._kind = kind
        self._endless = False
        self.begun = False

    async def lift_limit(self) -> None:
        """Remove the time limit from the following statements of this transaction."""
        self._endless = True
        await self.execute("SET LOCAL statement_timeout = 0")

    async def execute(self, sql: str, params: Parameters = None) -> None:
        """Run one statement and ignore its rows.

        Raises Unavailable if the connection is lost, NotNow for what the server may do later, and psycopg2's errors for
        a statement that fails. Cancelling leaves the statement running: call ``settle`` before the next one.
        """
        (await self._run(sql, params)).close()

    async def post(self, sql: str, params: Parameters = None) -> None:
        """Queue a statement to be sent with the next one or with the commit; its rows are ignored.

        If it fails, the call that sends it raises its error.
        """
        text = await self._prepare(sql)
        self._ahead.append(self._text(text, await self._encode(params)))

    async def fetch(self, sql: str, params: Parameters = None, behind: str | None = None) -> list[Row]:
        """Run one statement and return its rows; otherwise like ``execute``.

        ``behind`` is a statement without parameters that is sent with it and runs right before it.
        """
        text = await self._prepare(sql)  # First: preparing is a round trip of its own.
        if behind is not None:
            self._ahead.append(behind.encode())
        cursor = await self._send(text, await self._encode(params), decisive=self._kind is TransactionKind.CHANGE)
        names = [column.name for column in cursor.description or ()]
        rows: list[Row] = []
        while chunk := cursor.fetchmany(_SLICE):
            rows.extend(dict(zip(names, row, strict=True)) for row in chunk)
            if len(chunk) == _SLICE:
                await deferLater(self._reactor, 0)
        cursor.close()
        return rows

    async def commit(self) -> None:
        """Commit. Raises Unavailable with the message UNCERTAIN if the connection is lost before the server answers."""
        if self._kind is not TransactionKind.SEVERAL or self._ahead == [_BEGIN]:
            self._ahead = []
            return
        cursor = await self._send("COMMIT", None, decisive=True)
        if cursor.statusmessage != "COMMIT":
            raise InFailedSqlTransaction("a statement of this transaction had failed, so it was rolled back")
        cursor.close()

    async def listen(self, channel: str) -> None:
        """Start to listen: notifications on ``channel`` are passed to ``on_notify``."""
        await self.execute(f"LISTEN {psycopg2.extensions.quote_ident(channel, self._link.pollable())}")

    async def settle(self) -> None:
        """Wait for a statement whose caller was cancelled, and roll back; close the connection if that fails."""
        self._ahead = []
        if self._statement is not None:
            await _shield(self._statement)
        if not self.closed and self._link.get_transaction_status() != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            try:
                await self.execute("ROLLBACK")
            except (psycopg2.Error, Unavailable):
                self.close()

    async def _run(self, sql: str, params: Parameters = None) -> Any:
        text = await self._prepare(sql)
        return await self._send(text, await self._encode(params), decisive=self._kind is TransactionKind.CHANGE)

    async def _prepare(self, sql: str) -> str:
        """Return the text to send; a ``Prepared`` statement is prepared first, unless this connection has done so."""
        if not isinstance(sql, Prepared):
            return sql
        if sql.name not in self._prepared:
            done = partial(self._prepared.add, sql.name)
            (await self._send(sql.preparation, None, done)).close()
        return sql.execution

    def _text(self, sql: str, params: Parameters) -> bytes:
        link = self._link.pollable()
        if link is None or link.closed:
            raise database_away()
        with link.cursor() as cursor:
            return bytes(cursor.mogrify(sql, params))

    async def _send(
        self, sql: str, params: Parameters, done: Callable[[], None] | None = None, *, decisive: bool = False
    ) -> Any:
        """Run one statement, after those that were queued.

        ``done`` is called when the server has executed it, even if the caller was cancelled. A ``decisive`` statement
        commits: it may have been stored even if the server does not answer.
        """
        if self._statement is not None or self.closed:
            raise database_away()
        self.begun = self.begun or decisive
        text: str | bytes = sql
        if self._ahead:
            text, params = _SEPARATOR.join([*self._ahead, self._text(sql, params)]), None
            self._ahead = []
        cursor = self._link.cursor()
        # libpq may close its socket while sending; the reactor must not be watching it then.
        self._reactor.removeReader(self._link)
        self._statement = statement = cursor.execute(text, params)
        statement.addCallbacks(self._finish, self._fail)
        if not self._endless:
            hurry = self._reactor.callLater(ANSWER_TIMEOUT, self.close)
            statement.addBoth(_stop, hurry)
        if done is not None:
            statement.addCallback(lambda _: done())
        try:
            await _shield(statement)
        except psycopg2.extensions.TransactionRollbackError:
            raise
        except (psycopg2.Error, ConnectionClosed) as error:
            if (meaning := self._meaning(error, decisive)) is None:
                raise
            raise meaning from error
        self.begun = True
        return cursor

    def _meaning(self, error: Exception, decisive: bool) -> Unavailable | None:
        """Return what an error says of the database; close the connection to a server that only reads."""
        found = meaning(error, closed=self.closed, decisive=decisive)
        if isinstance(found, NotNow) and isinstance(error, ReadOnlySqlTransaction):
            self.close()  # The server was demoted, or never was the one that writes: the next one may be.
            self.begun = self.begun and not decisive
        return found

    def _finish(self, result: Any) -> Any:
        self._statement = None
        if not self.closed:
            self._reactor.addReader(self._link)
        return result

    def _fail(self, failure: Failure) -> Failure:
        if isinstance(failure.value, CancelledError):
            # txpostgres raises this for the server's "canceling statement due to statement timeout".
            self._finish(None)
            raise NotNow(SLOW)
        return cast(Failure, self._finish(failure))

    async def _encode(self, params: Parameters) -> Parameters:
        if isinstance(params, Mapping):
            return {name: await self._encode_one(value) for name, value in params.items()}
        return None if params is None else tuple([await self._encode_one(value) for value in params])

    async def _encode_one(self, value: Any) -> Any:
        return await value.encode(self._reactor) if isinstance(value, Json) else value


def _stop(result: Any, call: IDelayedCall) -> Any:
    if call.active():
        call.cancel()
    return result


def _shield(running: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred with the result of ``running``; cancelling it does not cancel ``running``."""
    shielded: Deferred[Any] = Deferred()
    running.addCallbacks(shielded.callback, shielded.errback)
    return shielded
