"""The database against a real PostgreSQL: transactions, losses, notifications, migrations."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from datamover.config import schema
from datamover.errors import ConfigError, StartError, Unavailable
from datamover.postgres.database import Cursor, Database, Json
from datamover.postgres.external import ExternalPostgres
from datamover.postgres.migrate import Migration, available, migrate
from datamover.postgres.named_queries import NamedQueries
from tests.servers.postgres import Postgres, address, running, shared
from tests.waiting import Waiting, until

PATIENCE = 60.0


@pytest.fixture
def url() -> str:
    return shared().fresh()


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop and kill."""
    with running() as server:
        yield server


@asynccontextmanager
async def opened(url: str, connections: int = 8) -> AsyncIterator[Database]:
    database = Database(reactor, address(url), connections)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def count(database: Database, table: str = "things") -> int:
    row = await database.fetch_one(f"SELECT count(*) AS n FROM {table}")
    assert row is not None
    return int(row["n"])


def _expect_cancelled(failure: Failure) -> None:
    assert isinstance(failure.value, CancelledError), failure


OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def backends(database: Database) -> int:
    """Kill every other session of this database and return how many there were."""
    return len(await database.fetch(OTHERS))


def test_statements_say_what_is_needed() -> None:
    """The migrations are numbered without gaps."""
    assert available()[0].name == "jobs"


@pytest_twisted.ensureDeferred
async def test_commits_after_the_function(url: str) -> None:
    """A transaction's rows are seen by others only once its function has returned."""
    async with opened(url) as database:
        await database.execute("CREATE TABLE things (n integer)")

        async def work(cursor: Cursor) -> str:
            await cursor.execute("INSERT INTO things VALUES (%s)", (1,))
            await deferLater(reactor, 0)
            assert await count(database) == 0
            return "done"

        assert await database.transaction(work) == "done"
        assert await count(database) == 1


@pytest_twisted.ensureDeferred
async def test_rolls_back(url: str) -> None:
    """A function that raises leaves nothing behind and its error is what the caller gets."""
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer)")

        async def work(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO things VALUES (1)")
            await deferLater(reactor, 0)
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await database.transaction(work)
        assert await count(database) == 0


@pytest_twisted.ensureDeferred
async def test_violations_surface(url: str) -> None:
    """A violated constraint is psycopg2's error, and a function that swallows it cannot pretend to have committed."""
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer PRIMARY KEY)")
        await database.execute("INSERT INTO things VALUES (1)")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            await database.execute("INSERT INTO things VALUES (1)")

        async def swallow(cursor: Cursor) -> None:
            with pytest.raises(psycopg2.errors.UniqueViolation):
                await cursor.execute("INSERT INTO things VALUES (1)")

        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            await database.transaction(swallow)
        with pytest.raises(IndexError):
            await database.execute("SELECT %s, %s", (1,))
        with pytest.raises(ValueError, match="NUL"):
            await database.execute("SELECT %s", ("a\0b",))
        assert await count(database) == 1


@pytest_twisted.ensureDeferred
async def test_values(url: str) -> None:
    """Values come back as Python's: times in UTC, bytes, decoded JSON, lists; and go out the same way."""
    async with opened(url) as database:
        row = await database.fetch_one(
            "SELECT now() AS at, %s::bytea AS sealed, %s::jsonb AS told, %s::text[] AS names, %s::uuid AS node,"
            " %s::integer[] AS none, null::bytea AS nothing, %s AS per",
            (b"\0\xff", Json({"ü": [1, None]}), ["a", "b"], "00000000-0000-0000-0000-000000000001", [], "100 %"),
        )
        assert row is not None
        assert row["at"].tzinfo is UTC
        assert abs(row["at"] - datetime.now(UTC)) < timedelta(minutes=5)
        assert row["sealed"] == b"\0\xff"
        assert row["told"] == {"ü": [1, None]}
        assert (row["names"], row["none"], row["nothing"], row["per"]) == (["a", "b"], [], None, "100 %")
        assert row["node"] == "00000000-0000-0000-0000-000000000001"
        assert await database.fetch_one("SELECT 1 WHERE false") is None
        assert await database.fetch("SELECT '50 %' AS x") == [{"x": "50 %"}]


@pytest_twisted.ensureDeferred
async def test_large(url: str) -> None:
    """A parameter of 30 MB and a hundred thousand rows go through while the reactor goes on turning."""
    async with opened(url) as database:
        await database.execute("CREATE TABLE things (index integer, path text)")
        files = [{"index": index, "path": f"{index}/" + "x" * 280} for index in range(100_000)]
        turns: list[float] = []
        clock = LoopingCall(lambda: turns.append(time.monotonic()))
        clock.clock = reactor
        running = clock.start(0.01)
        try:
            await database.execute(
                "INSERT INTO things SELECT * FROM jsonb_to_recordset(%(files)s) AS f (index integer, path text)",
                {"files": Json(files)},
            )
            rows = await database.fetch("SELECT index, path FROM things ORDER BY index")
        finally:
            clock.stop()
            await running
        assert rows == files
        assert max(late - early for early, late in pairwise(turns)) < 2.0


@pytest_twisted.ensureDeferred
async def test_many_callers(url: str) -> None:
    """Sixty-four callers share eight connections, each served, in order, none twice."""
    async with opened(url, 8) as database:
        await database.execute("CREATE TABLE things (n integer)")
        order: list[int] = []

        async def insert(n: int) -> int:
            async def work(cursor: Cursor) -> int:
                order.append(n)
                await cursor.execute("INSERT INTO things VALUES (%s)", (n,))
                rows = await cursor.fetch(
                    "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
                    " AND backend_type = 'client backend'"  # The server's own come and go.
                )
                return int(rows[0]["n"])

            return await database.transaction(work)

        sessions = await gatherResults([Deferred.fromCoroutine(insert(n)) for n in range(64)])
        assert max(sessions) <= 8
        assert await count(database) == 64
        assert sorted(order) == list(range(64))
        # Nobody has a connection before all who came earlier had one: at most the other seven have not begun by then.
        assert all(n - place <= 7 for place, n in enumerate(order))


@pytest_twisted.ensureDeferred
async def test_serialisation(url: str) -> None:
    """A transaction that the server ends in favour of another is run again, whole."""
    async with opened(url) as database:
        await database.execute("CREATE TABLE things (n integer)")
        await database.execute("INSERT INTO things VALUES (0)")
        runs = 0
        everybody: Deferred[None] = Deferred()

        async def add(cursor: Cursor) -> None:
            nonlocal runs
            runs += 1
            await cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            row = await cursor.fetch_one("SELECT n FROM things")
            assert row is not None
            if runs == 3 and not everybody.called:
                everybody.callback(None)
            elif runs < 3:
                waiting: Deferred[None] = Deferred()
                everybody.chainDeferred(waiting)
                await waiting
            await cursor.execute("UPDATE things SET n = %s", (row["n"] + 1,))

        await gatherResults([Deferred.fromCoroutine(database.transaction(add)) for _ in range(3)])
        assert await database.fetch("SELECT n FROM things") == [{"n": 3}]
        assert runs > 3


@pytest_twisted.ensureDeferred
async def test_terminated_sessions_are_replaced(url: str) -> None:
    """After pg_terminate_backend on every session the next callers are served, without an error."""
    async with opened(url, 4) as database, opened(url, 1) as killer:
        await gatherResults([Deferred.fromCoroutine(database.execute("SELECT pg_sleep(0.05)")) for _ in range(4)])
        assert await backends(killer) == 4

        async def gone() -> bool:
            return await backends(killer) == 0

        await until(gone)
        results = await gatherResults([Deferred.fromCoroutine(database.fetch("SELECT 1 AS x")) for _ in range(8)])
        assert results == [[{"x": 1}]] * 8


@pytest_twisted.ensureDeferred
async def test_ended_unseen(url: str) -> None:
    """A change is not entrusted to a session whose end has come, though the reactor has not seen it yet."""
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer)")
        with closing(psycopg2.connect(url)) as killer, killer.cursor() as cursor:
            killer.autocommit = True
            deadline = time.monotonic() + PATIENCE
            cursor.execute(OTHERS)
            while cursor.rowcount:  # No turn of the reactor in here.
                assert time.monotonic() < deadline
                cursor.execute(OTHERS)
        await database.execute("INSERT INTO things VALUES (1)")
        assert await count(database) == 1


@pytest.mark.parametrize("noticed", [False, True])
@pytest_twisted.ensureDeferred
async def test_terminated_in_the_middle(url: str, noticed: bool) -> None:
    """A session ended inside a transaction is Unavailable to its caller, and nothing of it is stored.

    Once the end is known, that is said also of what would only have left with the commit.
    """
    async with opened(url, 1) as database, opened(url, 1) as killer:
        await database.execute("CREATE TABLE things (n integer)")

        async def work(cursor: Cursor) -> None:
            async def refused() -> bool:
                try:
                    await cursor.post("INSERT INTO things VALUES (2)")
                except Unavailable:
                    return True
                return False

            await cursor.execute("INSERT INTO things VALUES (1)")
            await backends(killer)
            if noticed:
                await until(refused)
                await cursor.post("INSERT INTO things VALUES (2)")
            await cursor.execute("INSERT INTO things VALUES (2)")

        with pytest.raises(Unavailable, match="nothing was stored"):
            await database.transaction(work)
        assert await count(database) == 0


async def _insert(cursor: Cursor) -> None:
    await cursor.execute("INSERT INTO things VALUES (1)")


async def _post(cursor: Cursor) -> None:
    await cursor.post("INSERT INTO things VALUES (1)")


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(lambda database: database.transaction(_insert), id="the commit"),
        pytest.param(lambda database: database.transaction(_post), id="all of it, with the commit"),
        pytest.param(lambda database: database.execute("INSERT INTO things VALUES (1)"), id="a statement by itself"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_lost_while_storing(url: str, store: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
    """A connection lost under what stores is Unavailable, which does not claim to know; and it is not tried again."""
    async with opened(url, 1) as database, opened(url, 1) as killer:
        await database.execute("CREATE TABLE things (n integer PRIMARY KEY)")
        await database.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(20); RETURN NULL; END'"
        )
        await database.execute(
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        storing = Deferred.fromCoroutine(store(database))

        async def stores() -> bool:
            return bool(await killer.read("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))

        await until(stores)
        await backends(killer)
        with pytest.raises(Unavailable, match="may or may not be stored"):
            await storing
        assert await count(database) == 0


@pytest_twisted.ensureDeferred
async def test_prepared(url: str) -> None:
    """A statement is prepared once a connection, whatever becomes of the transaction or the caller that did it."""
    statement = NamedQueries(
        "-- name: many\n-- prepared: n integer\nSELECT n %% 7 AS n FROM generate_series(1, %(n)s) n;"
    )["many"]
    async with opened(url, 1) as database:

        async def refuse(cursor: Cursor) -> None:
            assert len(await cursor.fetch(statement, {"n": 3})) == 3
            raise ValueError("no")

        calling = Deferred.fromCoroutine(database.fetch(statement, {"n": 1}))
        calling.addErrback(_expect_cancelled)
        calling.cancel()
        with pytest.raises(ValueError, match="no"):
            await database.transaction(refuse)
        assert await database.fetch(statement, {"n": 2}) == [{"n": 1}, {"n": 2}]
        assert [row["name"] for row in await database.fetch("SELECT name FROM pg_prepared_statements")] == ["many"]


_KEEP = "-- name: keep\n-- prepared: n integer\nINSERT INTO things VALUES (%(n)s); -- and no more"


@pytest_twisted.ensureDeferred
async def test_posted(url: str) -> None:
    """What is posted is done in its order, with the next statement or the commit, and seen by what comes after it."""
    keep = NamedQueries(_KEEP)["keep"]
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer)")

        async def work(cursor: Cursor) -> list[Any]:
            await cursor.post("INSERT INTO things VALUES (%s)", (1,))
            await cursor.post(keep, {"n": 2})
            found = await cursor.fetch("SELECT n, '100%' AS told FROM things ORDER BY n")
            await cursor.post("UPDATE things SET n = n + %(more)s", {"more": 10})
            await cursor.post(keep, {"n": 3})
            return found

        async def all_posted(cursor: Cursor) -> None:
            await cursor.post("DELETE FROM things WHERE n = 3")

        assert [row["n"] for row in await database.transaction(work)] == [1, 2]
        await database.transaction(all_posted)
        assert await database.fetch("SELECT n FROM things ORDER BY n") == [{"n": 11}, {"n": 12}]


@pytest.mark.parametrize("followed", [False, True])
@pytest_twisted.ensureDeferred
async def test_posted_in_vain(url: str, followed: bool) -> None:
    """What a posted statement does wrong is raised by what it leaves with, and nothing is stored; nor if work fails."""
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer PRIMARY KEY)")

        async def wrong(cursor: Cursor) -> None:
            await cursor.fetch("INSERT INTO things VALUES (1) RETURNING n")
            await cursor.post("INSERT INTO things VALUES (1)")
            await cursor.post("INSERT INTO things VALUES (2)")
            if followed:
                await cursor.fetch("SELECT 1")

        async def refuse(cursor: Cursor) -> None:
            await cursor.post("INSERT INTO things VALUES (3)")
            raise ValueError("no")

        with pytest.raises(psycopg2.errors.UniqueViolation):
            await database.transaction(wrong)
        with pytest.raises(ValueError, match="no"):
            await database.transaction(refuse)
        assert await count(database) == 0


@pytest_twisted.ensureDeferred
async def test_reading(url: str) -> None:
    """What only reads is one statement to the server, with no word of a transaction, and outlives a lost session."""
    async with opened(url, 1) as database, opened(url, 1) as killer:
        last = "SELECT query FROM pg_stat_activity WHERE pid = %s"
        [me] = await database.read("SELECT pg_backend_pid() AS pid")
        assert [row["query"] for row in await killer.read(last, (me["pid"],))] == ["SELECT pg_backend_pid() AS pid"]
        assert await backends(killer) == 1
        assert await database.read("SELECT 1 AS x") == [{"x": 1}]
        with pytest.raises(psycopg2.errors.UndefinedTable):
            await database.read("SELECT * FROM nothing")
        assert await database.read("SELECT 1 AS x") == [{"x": 1}]


@pytest_twisted.ensureDeferred
async def test_restart(own_server: Postgres) -> None:
    """While the server is down callers get Unavailable at once; when it is back they are served."""
    async with opened(own_server.url, 4) as database:
        await database.execute("CREATE TABLE things (n integer)")
        inside = Deferred.fromCoroutine(database.execute("SELECT pg_sleep(20)"))
        own_server.kill()
        with pytest.raises(Unavailable):
            await inside
        with Waiting() as waiting:
            for attempt in [Deferred.fromCoroutine(database.execute("SELECT 1")) for _ in range(16)]:
                with pytest.raises(Unavailable, match="try again"):
                    await attempt
        assert waiting.seconds < 2
        own_server.start()
        assert await count(database) == 0
        own_server.restart()
        assert await count(database) == 0


@pytest_twisted.ensureDeferred
async def test_cancelling(url: str) -> None:
    """Cancelling a caller ends its wait at once; its statement is rolled back and the connection is used again."""
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer)")
        session = await database.fetch("SELECT pg_backend_pid() AS pid")

        async def work(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO things VALUES (1)")
            await cursor.execute("SELECT pg_sleep(0.3)")

        running = Deferred.fromCoroutine(database.transaction(work))
        waiting = Deferred.fromCoroutine(database.execute("INSERT INTO things VALUES (2)"))
        after = Deferred.fromCoroutine(count(database))
        await deferLater(reactor, 0.1)
        waiting.cancel()
        running.cancel()
        for cancelled in (running, waiting):
            assert cancelled.called
            with pytest.raises(CancelledError):
                await cancelled
        assert await after == 0
        assert await database.fetch("SELECT pg_backend_pid() AS pid") == session


@pytest_twisted.ensureDeferred
async def test_cancelling_at_every_moment(url: str) -> None:
    """Whenever a caller is cancelled, the pool is whole afterwards and no transaction stays open."""
    async with opened(url, 2) as database:
        await database.execute("CREATE TABLE things (n integer)")

        async def work(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO things VALUES (1)")
            await cursor.post("INSERT INTO things VALUES (2)")
            await cursor.fetch("SELECT generate_series(1, 5000)")
            await cursor.post("INSERT INTO things VALUES (3)")

        for step in range(60):
            callers = [Deferred.fromCoroutine(database.transaction(work)) for _ in range(3)]
            await deferLater(reactor, step / 4000)
            for caller in callers:
                caller.addErrback(_expect_cancelled)
                caller.cancel()
            await gatherResults(callers)
        await gatherResults([Deferred.fromCoroutine(database.execute("SELECT pg_sleep(0.01)")) for _ in range(8)])
        rows = await database.fetch(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        assert [row["state"] for row in rows] in ([], ["idle"])


@pytest_twisted.ensureDeferred
async def test_statement_timeout(url: str) -> None:
    """A statement that the server ends for its duration is Unavailable, not a cancellation."""
    async with opened(url, 1) as database:

        async def work(cursor: Cursor) -> None:
            await cursor.execute("SET LOCAL statement_timeout = 50")
            await cursor.execute("SELECT pg_sleep(10)")

        with pytest.raises(Unavailable, match="too long"):
            await database.transaction(work)
        row = await database.fetch_one("SHOW statement_timeout")
        assert row == {"statement_timeout": "30s"}


@pytest_twisted.ensureDeferred
async def test_not_open() -> None:
    """Before it is opened, and after it is closed, every call is Unavailable at once."""
    url = shared().fresh()
    database = Database(reactor, address(url), 1)
    with pytest.raises(Unavailable):
        await database.execute("SELECT 1")
    assert not database.ready
    await database.open()
    assert database.ready
    sleeping = Deferred.fromCoroutine(database.execute("SELECT pg_sleep(20)"))
    waiting = Deferred.fromCoroutine(database.execute("SELECT 1"))
    await deferLater(reactor, 0.05)
    await database.close()
    for caller in (sleeping, waiting):
        with pytest.raises(Unavailable):
            await caller
    with pytest.raises(Unavailable):
        await database.execute("SELECT 1")


@pytest_twisted.ensureDeferred
async def test_start_waits_for_the_server(own_server: Postgres) -> None:
    """Started before its server, the database opens by itself, migrated, once the server is there."""
    own_server.stop()
    database = Database(reactor, address(own_server.url), 2)
    prepared: list[object] = []

    async def prepare(fresh: Database) -> None:
        prepared.append(await migrate(fresh))

    database.start(prepare)
    try:
        await deferLater(reactor, 0.1)
        assert not database.ready
        own_server.start()
        await database.opened()
        assert database.ready
        assert prepared == [available()]
        assert await count(database, "jobs") == 0
    finally:
        await database.close()


@pytest_twisted.ensureDeferred
async def test_start_tells_what_keeps_it(url: str) -> None:
    """What can never work is told to whoever waits for the database; closing early is Unavailable."""

    async def prepare(fresh: Database) -> None:
        raise StartError("newer than I am")

    async def fine(fresh: Database) -> None:
        pass

    database = Database(reactor, address(url), 1)
    database.start(prepare)
    with pytest.raises(StartError, match="newer than I am"):
        await database.opened()
    with pytest.raises(StartError, match="newer than I am"):
        await database.opened()
    await database.close()

    nowhere = Database(reactor, address("postgresql://nobody@127.0.0.1:1/none"), 1)
    nowhere.start(fine)
    opening = Deferred.fromCoroutine(nowhere.opened())
    await deferLater(reactor, 0.1)
    await nowhere.close()
    with pytest.raises(Unavailable):
        await opening


@pytest_twisted.ensureDeferred
async def test_listening(url: str) -> None:
    """Notifications arrive, and again after the listening session was ended; each beginning is told."""
    async with opened(url, 2) as database:
        heard: list[str] = []
        beginnings: list[int] = []
        listening = await database.listen('news of "it"', heard.append, lambda: beginnings.append(1))
        assert beginnings == [1]
        await database.execute("SELECT pg_notify('news of \"it\"', 'one')")

        async def heard_one() -> bool:
            return heard == ["one"]

        await until(heard_one)
        assert await backends(database) >= 1

        async def listening_again() -> bool:
            return len(beginnings) == 2

        await until(listening_again)
        await database.execute("SELECT pg_notify('news of \"it\"', 'two')")

        async def heard_both() -> bool:
            return heard == ["one", "two"]

        await until(heard_both)
        await listening.close()
        await database.listen("other", heard.append)


@pytest_twisted.ensureDeferred
async def test_migrating(url: str) -> None:
    """Migrating twice, or by several at once, applies every migration once."""
    async with opened(url, 4) as database, opened(url, 4) as other:
        applied: list[Any] = await gatherResults(
            [Deferred.fromCoroutine(migrate(one)) for one in (database, other, database)]
        )
        assert sum(map(len, applied)) == len(available())
        assert await migrate(database) == []
        assert await count(database, "schema_migrations") == len(available())


@pytest_twisted.ensureDeferred
async def test_migration_failing(url: str) -> None:
    """A migration that fails leaves nothing of itself, and what came before it stays."""
    async with opened(url) as database:
        steps = [
            Migration(1, "one", "CREATE TABLE one (n integer)"),
            Migration(2, "two", "CREATE TABLE two (n integer); SELECT 1/0"),
        ]
        with pytest.raises(psycopg2.errors.DivisionByZero):
            await migrate(database, steps)
        rows = await database.fetch("SELECT to_regclass('one') AS one, to_regclass('two') AS two")
        assert rows == [{"one": "one", "two": None}]


@pytest_twisted.ensureDeferred
async def test_migrated_by_a_newer_version(url: str) -> None:
    """A database that is newer than the code, or has another history, is refused in a sentence."""
    async with opened(url) as database:
        steps = [Migration(1, "one", "SELECT 1"), Migration(2, "two", "SELECT 2")]
        await migrate(database, steps)
        with pytest.raises(StartError, match="0002_two, which this version of datamover does not know"):
            await migrate(database, steps[:1])
        with pytest.raises(StartError, match="another migration 0001_one"):
            await migrate(database, [Migration(1, "one", "SELECT 3"), steps[1]])


@pytest_twisted.ensureDeferred
async def test_refused_by_the_server(url: str) -> None:
    """A database that does not exist, and an encoding that will not do, are said in the server's words and ours."""
    with pytest.raises(Unavailable, match='database "nowhere" does not exist'):
        async with opened(shared().server.database_url("nowhere")):
            pass
    shared().server.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StartError, match="LATIN1"):
        async with opened(shared().server.database_url("latin")):
            pass


@pytest_twisted.ensureDeferred
async def test_names_are_resolved(url: str) -> None:
    """A host name, and several, are looked up before connecting, and every address is tried."""
    port = shared().server.port
    name = url.rpartition("/")[2]
    async with opened(f"host=localhost,127.0.0.1 port={port} user=postgres dbname={name}", 1) as database:
        assert await database.fetch("SELECT 1 AS x") == [{"x": 1}]
    async with opened(f"host=localhost,127.0.0.1 port=1,{port} user=postgres dbname={name}", 1) as database:
        assert await database.fetch("SELECT 1 AS x") == [{"x": 1}]
    with pytest.raises(Unavailable, match="try again"):
        async with opened("postgresql://nobody@nowhere.invalid/none"):
            pass


@pytest_twisted.ensureDeferred
async def test_given(url: str, tmp_path: Any) -> None:
    """The password comes from its file; one in the URL is refused without being repeated."""
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    told = await ExternalPostgres(schema.DatabaseSection(url=url, password_file=secret)).dsn()
    assert "password=s3cret" in told
    async with opened(told) as database:
        assert database.ready
    assert await ExternalPostgres(schema.DatabaseSection(url=url)).dsn() == url
    with pytest.raises(StartError, match="No such file"):
        await ExternalPostgres(schema.DatabaseSection(url=url, password_file=tmp_path / "none")).dsn()
    with pytest.raises(ConfigError, match="password_file") as refusal:
        ExternalPostgres(schema.DatabaseSection(url="postgresql://a:hunter2@b/c"))
    assert "hunter2" not in str(refusal.value)
    with pytest.raises(ConfigError, match=r"database\.url"):
        ExternalPostgres(schema.DatabaseSection(url="mysql://a/b c"))
