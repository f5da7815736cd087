"""One connection to PostgreSQL, and what txpostgres and psycopg2 get wrong, put right.

- a session that can only read is given up: another server is the one that writes;
- the end of an idle connection is noticed before it serves again, told once, and raises nothing into the reactor
  (link.py);
- cancelling a caller leaves the statement running to its end, for ``settle`` to wait for;
- a statement that ran into its time limit is an error, not a cancellation; so is one that nobody answers at all;
- COMMIT of a transaction that had failed is an error, not a silent rollback.

Which connection serves whom, and what is tried again, is the pool's matter (database.py).
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

from datamover.errors import NotNow, StartError, Unavailable
from datamover.postgres import session
from datamover.postgres.driver import DriverConnection
from datamover.postgres.failures import AWAY, ONLY_READS, SLOW, meaning
from datamover.postgres.named_queries import Prepared
from datamover.postgres.values import BYTES, Json

Row = dict[str, Any]
Parameters = Mapping[str, Any] | Sequence[Any] | None
Target = dict[str, str]
"""What libpq is told to connect to one host; names are resolved (hosts.py)."""

ANSWER_TIMEOUT = 35.0
"""Seconds after which a connection is dropped whose server has neither done a statement nor ended it."""
OLDEST = 14
"""The oldest major version of PostgreSQL that has what queries.sql needs."""

_BEGIN = b"BEGIN"
_APART = b"\n;\n"
_SLICE = 2000
"""Rows read between two turns of the reactor."""


class Kind(Enum):
    """What a transaction is made of."""

    SEVERAL = "several"
    """Statements, and a commit."""
    CHANGE = "change"
    """One statement, which the server commits by itself: there and back once."""
    READ = "read"
    """One statement that changes nothing, and may be run again."""


class PostgresConnection:
    """A connection, for one caller at a time."""

    def __init__(self, reactor: Any, on_notify: Callable[[str, str], None] | None = None) -> None:
        self._reactor = reactor
        self._link = DriverConnection(reactor, on_notify, self._lost)
        self._statement: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []
        self._prepared: set[str] = set()
        self._ahead: list[bytes] = []
        """Statements that leave with the next one, as text."""
        self._kind = Kind.SEVERAL
        self._endless = False
        self.begun = False
        """Whether a statement of the present transaction may have been done."""

    async def connect(self, target: Target) -> None:
        """Connect and set the session up; cancelling drops the connection.

        Raises psycopg2's errors and those of sockets for what cannot be connected to, Unavailable for a server that
        only reads, StartError for one that will never do.
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
            raise Unavailable(f"{AWAY} ({ONLY_READS})")

    @property
    def closed(self) -> bool:
        return self._link.pollable() is None or bool(self._link.pollable().closed)

    @property
    def usable(self) -> bool:
        """Whether an idle connection can serve: what has something to say was ended, though nobody read that yet."""
        return not self.closed and not _readable(self._link.pollable().fileno())

    def close(self) -> None:
        """Drop the connection, whatever it is doing."""
        self._link.close()

    async def wait_for_end(self) -> None:
        """Complete when the connection has ended; cancelling only stops the waiting."""
        if not self.closed:
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter

    def _lost(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def begin(self, kind: Kind) -> None:
        """Have the next statement begin a transaction: the server is told of both at once.

        Or let it be all that there is, where that is its kind: the server needs no word of that.
        """
        self._ahead = [_BEGIN] if kind is Kind.SEVERAL else []
        self._kind = kind
        self._endless = False
        self.begun = False

    async def lift_limit(self) -> None:
        """Let the statements of the present transaction take as long as they take."""
        self._endless = True
        await self.execute("SET LOCAL statement_timeout = 0")

    async def execute(self, sql: str, params: Parameters = None) -> None:
        """Run one statement, and forget its rows.

        Raises Unavailable when the connection is lost or the server gives up, NotNow for what it may do later; what
        the statement itself did wrong stays a psycopg2 error. Cancelling leaves the statement running: ``settle``
        before the next one.
        """
        (await self._run(sql, params)).close()

    async def post(self, sql: str, params: Parameters = None) -> None:
        """Have a statement leave with the next one, or with the commit, before it; its rows are forgotten.

        Whoever sends that one is told what this one met.
        """
        text = await self._known(sql)
        self._ahead.append(self._text(text, await self._encode(params)))

    async def fetch(self, sql: str, params: Parameters = None, behind: str | None = None) -> list[Row]:
        """Run one statement and return its rows; otherwise like ``execute``.

        ``behind``: one without parameters that leaves with it, right before it.
        """
        text = await self._known(sql)  # Making it known is a round trip of its own.
        if behind is not None:
            self._ahead.append(behind.encode())
        cursor = await self._send(text, await self._encode(params), decisive=self._kind is Kind.CHANGE)
        names = [column.name for column in cursor.description or ()]
        rows: list[Row] = []
        while chunk := cursor.fetchmany(_SLICE):
            rows.extend(dict(zip(names, row, strict=True)) for row in chunk)
            if len(chunk) == _SLICE:
                await deferLater(self._reactor, 0)
        cursor.close()
        return rows

    async def commit(self) -> None:
        """Commit. Raises Unavailable, saying so, when the connection is lost before the server has answered."""
        if self._kind is not Kind.SEVERAL or self._ahead == [_BEGIN]:
            self._ahead = []
            return
        cursor = await self._send("COMMIT", None, decisive=True)
        if cursor.statusmessage != "COMMIT":
            raise InFailedSqlTransaction("a statement of this transaction had failed, so it was rolled back")
        cursor.close()

    async def listen(self, channel: str) -> None:
        """Have notifications on ``channel`` told to ``on_notify``."""
        await self.execute(f"LISTEN {psycopg2.extensions.quote_ident(channel, self._link.pollable())}")

    async def settle(self) -> None:
        """Wait for a statement whose caller has gone, and roll back what is open; drop the connection if that fails."""
        self._ahead = []
        if self._statement is not None:
            await _shield(self._statement)
        if not self.closed and self._link.get_transaction_status() != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            try:
                await self.execute("ROLLBACK")
            except (psycopg2.Error, Unavailable):
                self.close()

    async def _run(self, sql: str, params: Parameters = None) -> Any:
        text = await self._known(sql)
        return await self._send(text, await self._encode(params), decisive=self._kind is Kind.CHANGE)

    async def _known(self, sql: str) -> str:
        """Return the text to send; a statement to be prepared is, where this connection's server does not know it."""
        if not isinstance(sql, Prepared):
            return sql
        if sql.name not in self._prepared:
            known = partial(self._prepared.add, sql.name)
            (await self._send(sql.preparation, None, known)).close()
        return sql.execution

    def _text(self, sql: str, params: Parameters) -> bytes:
        link = self._link.pollable()
        if link is None or link.closed:
            raise Unavailable(AWAY)
        with link.cursor() as cursor:
            return bytes(cursor.mogrify(sql, params))

    async def _send(
        self, sql: str, params: Parameters, done: Callable[[], None] | None = None, *, decisive: bool = False
    ) -> Any:
        """Run one statement as it stands, after those that leave with it.

        ``done`` is called when the server has done it, even if the caller was cancelled. What is ``decisive`` may have
        been stored where nobody answers.
        """
        if self._statement is not None or self.closed:
            raise Unavailable(AWAY)
        self.begun = self.begun or decisive
        text: str | bytes = sql
        if self._ahead:
            text, params = _APART.join([*self._ahead, self._text(sql, params)]), None
            self._ahead = []
        cursor = self._link.cursor()
        # libpq may drop its socket while sending; the reactor must not be watching it then.
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
            # txpostgres's name for the server's "canceling statement due to statement timeout".
            self._finish(None)
            raise NotNow(SLOW)
        return cast(Failure, self._finish(failure))

    async def _encode(self, params: Parameters) -> Parameters:
        if isinstance(params, Mapping):
            return {name: await self._encode_one(value) for name, value in params.items()}
        return None if params is None else tuple([await self._encode_one(value) for value in params])

    async def _encode_one(self, value: Any) -> Any:
        return await value.encode(self._reactor) if isinstance(value, Json) else value


def _readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _stop(result: Any, call: IDelayedCall) -> Any:
    if call.active():
        call.cancel()
    return result


def _shield(running: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred with the result of ``running``, whose cancelling leaves that alone."""
    shielded: Deferred[Any] = Deferred()
    running.addCallbacks(shielded.callback, shielded.errback)
    return shielded
