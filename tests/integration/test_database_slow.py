"""A database that takes its time, or says nothing at all: whoever asks it is answered in the end."""

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from datamover.errors import Unavailable
from datamover.postgres import connection, hosts
from datamover.postgres.database import Cursor
from tests.integration.test_database import count, opened
from tests.servers.path import Path, path_to
from tests.servers.postgres import shared
from tests.waiting import Waiting

LIMIT = 0.5
"""Seconds that an answer may take here."""


@pytest.fixture
def path() -> Iterator[Path]:
    with path_to(shared().server.port) as path:
        yield path


@pytest.fixture
def url(path: Path) -> str:
    """Return the URL of a new database, over the path."""
    return f"postgresql://postgres@127.0.0.1:{path.port}/{shared().fresh().rpartition('/')[2]}"


@pytest_twisted.ensureDeferred
async def test_slow(url: str, path: Path) -> None:
    """Statements over a slow connection are done, each caller's with its own answer."""
    async with opened(url, 4) as database:
        path.slow(0.05)
        asking = [Deferred.fromCoroutine(database.fetch(f"SELECT {number} AS n")) for number in range(8)]
        assert await gatherResults(asking) == [[{"n": number}] for number in range(8)]


@pytest_twisted.ensureDeferred
async def test_no_answer(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is there and says nothing is away to all who ask it, and is used when it is back.

    What it was asked for before may be stored then, which they were told.
    """
    async with opened(url, 2) as database:
        await database.execute("CREATE TABLE things (n integer)")
        monkeypatch.setattr(connection, "ANSWER_TIMEOUT", LIMIT)
        monkeypatch.setattr(hosts, "CONNECT_TIMEOUT", LIMIT)
        path.stand()
        with Waiting() as waiting:
            asking = [Deferred.fromCoroutine(database.execute("INSERT INTO things VALUES (1)")) for _ in range(6)]
            uncertain = 0
            for one in asking:
                with pytest.raises(Unavailable) as met:
                    await one
                uncertain += "may or may not be stored" in met.value.message
        assert waiting.seconds < 6 * LIMIT
        path.go_on()
        monkeypatch.undo()
        assert await count(database) <= uncertain == 1


@pytest_twisted.ensureDeferred
async def test_no_answer_to_a_commit(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a commit that nobody answers it is said that it may be stored."""
    async with opened(url, 1) as database:
        await database.execute("CREATE TABLE things (n integer)")
        monkeypatch.setattr(connection, "ANSWER_TIMEOUT", LIMIT)

        async def work(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO things VALUES (1)")
            path.stand()

        with pytest.raises(Unavailable, match="may or may not be stored"):
            await database.transaction(work)
        path.go_on()


@pytest_twisted.ensureDeferred
async def test_limit_lifted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that may take as long as it takes does; the next one may not."""
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", LIMIT)
    async with opened(url, 1) as database:

        async def work(cursor: Cursor) -> None:
            await cursor.lift_limit()
            await cursor.execute(f"SELECT pg_sleep({1.5 * LIMIT})")

        await database.transaction(work)
        with pytest.raises(Unavailable):
            await database.execute(f"SELECT pg_sleep({10 * LIMIT})")
