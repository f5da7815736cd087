"""Several hosts of one database: which is asked when, and what becomes of sessions with one that no longer writes."""

import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.errors import Unavailable
from datamover.postgres import connection
from datamover.postgres.admission import AccessRefused
from datamover.postgres.database import Database
from datamover.postgres.hosts import Host, hosts
from tests.integration.test_database import opened
from tests.servers.path import path_to
from tests.servers.postgres import Postgres, address, replicated
from tests.waiting import until

PATIENCE = 60.0
ALONE = 2
"""Seconds that one host is waited for."""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its standby; the last test has the standby take over."""
    with replicated() as pair:
        yield pair


def url(*ports: int, more: str = "") -> str:
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres@{places}/postgres?connect_timeout={ALONE}{more}"


async def port(database: Database) -> int:
    (row,) = await database.fetch("SELECT inet_server_port() AS port")
    return int(row["port"])


async def end_sessions(server: Postgres) -> None:
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datamover'")
    await deferLater(reactor, 0.1)


@pytest_twisted.ensureDeferred
async def test_a_host_that_says_nothing(pair: tuple[Postgres, Postgres]) -> None:
    """A machine that is gone without a word is waited for so long as it may take alone; the next is asked then, and is
    the first to be asked from then on."""
    primary, _ = pair
    with path_to(primary.port) as silent:
        silent.stand()
        began = time.monotonic()
        async with opened(url(silent.port, primary.port), 1) as database:
            assert ALONE <= time.monotonic() - began < PATIENCE
            assert await port(database) == primary.port
            assert silent.asked == 1
            await end_sessions(primary)
            assert await port(database) == primary.port
            assert silent.asked == 1
        with pytest.raises(Unavailable, match=rf"no answer from 127\.0\.0\.1 within {ALONE}\.0 s"):
            await Database(reactor, address(url(silent.port)), 1).open()
        silent.go_on()


@pytest_twisted.ensureDeferred
async def test_a_name_that_is_not_found(pair: tuple[Postgres, Postgres]) -> None:
    """A host whose name nobody knows keeps nobody from the next; where all fail, what each said is told."""
    primary, _ = pair
    async with opened(url(primary.port).replace("@", "@nowhere.invalid:1,")) as database:
        assert await port(database) == primary.port
    alone = "postgresql://postgres@nowhere.invalid:1,127.0.0.1:1/postgres"
    with pytest.raises(Unavailable, match=r"nowhere\.invalid: .*; 127\.0\.0\.1: Connection refused"):
        await Database(reactor, address(alone), 1).open()


@pytest_twisted.ensureDeferred
async def test_a_host_that_refuses(pair: tuple[Postgres, Postgres]) -> None:
    """A host that does not let us in is told where no other does; else it is passed over, as one that is away."""
    primary, standby = pair
    stranger = url(primary.port, 1).replace("/postgres?", "/none?")
    with pytest.raises(AccessRefused, match="has no database 'none'"):
        await Database(reactor, address(stranger), 1).open()
    async with opened(url(1, primary.port), 1) as database:
        assert await port(database) == primary.port
    assert standby.port != primary.port


@pytest.mark.parametrize("more", ["", "&target_session_attrs=read-write"])
@pytest_twisted.ensureDeferred
async def test_a_standby_first(pair: tuple[Postgres, Postgres], more: str) -> None:
    """A standby is passed over for the server that writes, whether the URL asks for that or not."""
    primary, standby = pair
    async with opened(url(standby.port, primary.port, more=more), 1) as database:
        assert await port(database) == primary.port
    with pytest.raises(Unavailable, match=r"only reads|session is read-only"):
        await Database(reactor, address(url(standby.port, more=more)), 1).open()


@pytest_twisted.ensureDeferred
async def test_a_session_that_only_reads(pair: tuple[Postgres, Postgres]) -> None:
    """A session whose server takes no writes any more (25006) is given up for one that does; where there is none, the
    database is away."""
    primary, _ = pair
    async with opened(url(primary.port), 1) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS things (n integer)")
        for write in (_at_once, _in_a_transaction):
            await database.execute("SET default_transaction_read_only = on")
            (before,) = await database.fetch("SELECT pg_backend_pid() AS pid")
            await write(database)
            (after,) = await database.fetch("SELECT pg_backend_pid() AS pid")
            assert after != before
        primary.run("ALTER DATABASE postgres SET default_transaction_read_only = on")
        await end_sessions(primary)
        with pytest.raises(Unavailable, match="only reads"):
            await _at_once(database)
        primary.run("ALTER DATABASE postgres RESET ALL", database="template1")
        await _at_once(database)


async def _at_once(database: Database) -> None:
    await database.execute("INSERT INTO things VALUES (1)")


async def _in_a_transaction(database: Database) -> None:
    await database.transaction(lambda cursor: cursor.execute("INSERT INTO things VALUES (2)"))


@pytest_twisted.ensureDeferred
async def test_a_primary_that_stands_still(pair: tuple[Postgres, Postgres], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the primary's machine stands still and the standby takes over, sessions with the first are given up after
    their time, and all goes on with the second."""
    primary, standby = pair
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 1.0)
    async with opened(url(primary.port, standby.port, more="&target_session_attrs=read-write"), 2) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS things (n integer)")
        primary.freeze()
        try:
            with pytest.raises(Unavailable):
                await _at_once(database)
            standby.promote()
            await until(lambda: _writes(database))
            assert await port(database) == standby.port
        finally:
            primary.destroy()


async def _writes(database: Database) -> bool:
    with suppress(Unavailable):
        await _at_once(database)
        return True
    return False


@pytest.mark.parametrize(
    ("dsn", "listed"),
    [
        ("dbname=x", [Host(None, None, None)]),
        ("host=a", [Host("a", None, None)]),
        ("postgresql://a,b:5/x", [Host("a", None, None), Host("b", None, "5")]),
        ("host=a,b port=5", [Host("a", None, "5"), Host("b", None, "5")]),
        ("host=a,b hostaddr=1.1.1.1,2.2.2.2 port=5,6", [Host("a", "1.1.1.1", "5"), Host("b", "2.2.2.2", "6")]),
        ("hostaddr=::1", [Host(None, "::1", None)]),
        ("host=/run/postgresql", [Host("/run/postgresql", None, None)]),
    ],
)
def test_listed(dsn: str, listed: list[Host]) -> None:
    """Hosts, addresses and ports are lists that belong together, or one for all."""
    assert list(hosts(psycopg2.extensions.parse_dsn(dsn))) == listed
    assert Host("a", "1.1.1.1", None).within({"host": "a,b", "port": "5,6", "user": "u"}) == {
        "host": "a",
        "hostaddr": "1.1.1.1",
        "user": "u",
    }
