"""The figures of the queue, on a real database with a long history."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.errors import Unavailable
from datamover.jobs.figures import MOST, FigureReader
from datamover.postgres.database import Database
from datamover.postgres.named_queries import QUERIES
from tests.servers import postgres

FILL = """
INSERT INTO jobs (owner, method, label, overwrite, max_attempts, priority, stop_on_failure, files_total, files_sized,
                  bytes_sized, state, finished_at, submitted_at)
SELECT 'owner' || i %% 5, 'jobs.submit', '', 'never', 5, 1 + i %% 5, false, 1, 0, 0,
       CASE WHEN i > %(waiting)s THEN 'COMPLETED' ELSE 'PENDING' END, CASE WHEN i > %(waiting)s THEN now() END,
       now() - interval '1 hour' + i * interval '1 second'
FROM generate_series(1, %(jobs)s) AS i;
INSERT INTO transfers (job, index, owner, priority, source_host, leader, source_url, destination, path, naming, state)
SELECT id, 0, owner, priority, 'web host' || id %% 3, 0, 'http://host/', 'place' || id %% 2, 'p', 'exact', state
FROM jobs ORDER BY id;
"""


class History:
    """A database with many ended transfers and few waiting ones."""

    def __init__(self, url: str, database: Database) -> None:
        self.database = database
        self.reader = FigureReader(database, 30.0)
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True

    def run(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    async def close(self) -> None:
        self._connection.close()
        await self.database.close()


@pytest_twisted.async_yield_fixture
async def history() -> AsyncIterator[History]:
    url = await postgres.shared().migrated(reactor)
    database = Database(reactor, postgres.address(url), 2)
    await database.open()
    history = History(url, database)
    yield history
    await history.close()


@pytest_twisted.ensureDeferred
async def test_of_an_empty_queue(history: History) -> None:
    """Nothing waits, and no process is alive."""
    figures = await history.reader.read()
    found = [figures.jobs, figures.pending, figures.age, figures.active, figures.nodes]
    assert not any(found)


@pytest_twisted.ensureDeferred
async def test_of_a_queue(history: History) -> None:
    """What waits and runs is counted by destination; the oldest counts, whatever its priority; paused is left out."""
    history.run(FILL, {"waiting": 100, "jobs": 200})
    history.run("INSERT INTO nodes (id, name, roles, draining) VALUES (gen_random_uuid(), 'a', '{api,engine}', true)")
    history.run("INSERT INTO nodes (id, name, roles) VALUES (gen_random_uuid(), 'b', '{engine}')")
    history.run(
        "INSERT INTO nodes (id, name, roles, heartbeat_at) "
        "VALUES (gen_random_uuid(), 'c', '{engine}', now() - interval '1 minute')"
    )
    history.run(
        "INSERT INTO sides (name, held, closed_until) VALUES ('place place0', 'why', NULL), "
        "('place place1', NULL, now()), ('web host0', NULL, now()), ('web host1', NULL, NULL)"
    )
    first = history.run("SELECT min(id) FROM jobs")[0][0]
    history.run("UPDATE transfers SET paused = true WHERE job = %s", [first + 1])
    history.run("UPDATE transfers SET state = 'IN_PROGRESS', node = gen_random_uuid() WHERE job = %s", [first + 2])
    history.run("UPDATE jobs SET state = 'IN_PROGRESS' WHERE id = %s", [first + 2])
    figures = await history.reader.read()
    assert figures.jobs == {"PENDING": 99, "IN_PROGRESS": 1}
    taken, other = f"place{first % 2}", f"place{(first + 1) % 2}"
    assert figures.pending == {taken: 49, other: 49}
    assert figures.active == {(taken, "IN_PROGRESS"): 1}
    assert figures.age[taken] == pytest.approx(3599, abs=30)
    assert figures.age[other] == pytest.approx(3596, abs=30)
    assert figures.age[taken] > figures.age[other]
    assert figures.held == frozenset({"place0"})
    assert figures.broken == frozenset({"place1"})
    assert figures.broken_hosts == 1
    assert (figures.nodes, figures.draining) == ({"api": 1, "engine": 2}, 1)


@pytest_twisted.ensureDeferred
async def test_history_costs_nothing(history: History) -> None:
    """However much has ended, no figure reads a whole table: each plan stands on the indexes of what has not."""
    history.run(FILL, {"waiting": 500, "jobs": 50_000})
    history.run("ANALYZE")
    for name in ("figure_queue", "figure_rooms", "read_without_room", "figure_active", "figure_jobs", "read_queue"):
        plan = "\n".join(row[0] for row in history.run(f"EXPLAIN {QUERIES[name]}", {"most": MOST}))
        assert "Seq Scan on transfers" not in plan, plan
        assert "Seq Scan on jobs" not in plan, plan
    assert sum((await history.reader.read()).pending.values()) == 500


@pytest_twisted.ensureDeferred
async def test_the_queue_by_destination(history: History) -> None:
    """What waits, paused jobs included, and what moves are counted by destination, no further than asked for."""
    query = QUERIES["read_queue"]
    assert history.run(query, {"most": MOST}) == []
    history.run(FILL, {"waiting": 100, "jobs": 200})
    first = history.run("SELECT min(id) FROM jobs")[0][0]
    paused, moving = f"place{(first + 1) % 2}", f"place{first % 2}"
    history.run("UPDATE transfers SET paused = true WHERE job = %s", [first + 1])
    history.run(
        "UPDATE transfers SET state = 'IN_PROGRESS', node = gen_random_uuid(), rate = 5 WHERE job = %s", [first + 2]
    )
    assert sorted(history.run(query, {"most": MOST})) == sorted([(paused, 50, 0, 0), (moving, 49, 1, 5)])
    history.run("UPDATE transfers SET paused = true WHERE state = 'PENDING' AND destination = %s", [moving])
    assert sorted(history.run(query, {"most": 7})) == sorted([(paused, 8, 0, 0), (moving, 7, 1, 5)])


@pytest_twisted.ensureDeferred
async def test_a_database_that_hangs(history: History) -> None:
    """A statement that takes too long is ended by the server, and counts as a database that is away."""
    blocker = history.run("BEGIN; LOCK TABLE sides; SELECT 1")
    assert blocker
    with pytest.raises(Unavailable, match="too long"):
        await history.reader.read()
    history.run("ROLLBACK")
