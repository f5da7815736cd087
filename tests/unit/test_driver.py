"""Events that the reactor tells of, which belong to another socket that had the same number."""

import select
from collections.abc import Iterator

import psycopg2
import pytest
import pytest_twisted
from psycopg2.extensions import parse_dsn
from twisted.internet import reactor
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from datamover.postgres.driver import DriverConnection, is_ready
from tests.servers.ports import free_port
from tests.servers.postgres import shared

lost: list[str] = []


@pytest.fixture
def link() -> Iterator[DriverConnection]:
    lost.clear()
    link = DriverConnection(reactor, None, lambda: lost.append("lost"))
    yield link
    link.close()
    assert link not in reactor.getReaders()
    assert link not in reactor.getWriters()


@pytest_twisted.ensureDeferred
async def test_while_connecting(link: DriverConnection) -> None:
    """libpq is not asked to go on: it would replace its socket, of which the reactor keeps the number."""
    connecting = link.connect(host="127.0.0.1", port=free_port(), user="nobody", dbname="none")
    link.doRead()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        await connecting


@pytest_twisted.ensureDeferred
async def test_while_idle(link: DriverConnection) -> None:
    """The connection stays open, and the end of it is told when it comes."""
    await link.connect(**parse_dsn(shared().fresh()))
    link.doRead()
    link.connectionLost(Failure(ConnectionLost()))  # type: ignore[no-untyped-call]
    assert not lost
    assert await link.runQuery("SELECT 1") == [(1,)]
    link.close()
    assert lost == ["lost"]


def test_closed_by_libpq() -> None:
    """A socket that is gone is not asked, and counts as broken."""
    assert is_ready(-1, select.POLLIN)
