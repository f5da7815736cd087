"""Two versions at work on one database: what a process of the version before does, beside what this one has begun."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.errors import ExpiredJob, NotNow
from datamover.jobs.upkeep import changes, slices
from datamover.jobs.upkeep.slices import SliceSize
from datamover.jobs.upkeep.upkeep import DAY, Upkeep
from datamover.jobs.values import State
from datamover.postgres import migrate
from datamover.postgres.database import Database
from tests.engine.rig import Rig, file, place
from tests.servers.postgres import address, shared, transaction

FILES = 20

# Statements of the version before, with their parameters filled in.
CANCEL = (
    "SELECT pg_advisory_xact_lock(hashtext('datamover.claim'))",
    "SELECT id, state, owner, cancelled FROM jobs WHERE id = {job} FOR UPDATE",
    "UPDATE jobs SET cancelled = true, paused = false WHERE id = {job}",
    """UPDATE transfers t SET state = 'CANCELLED', finished_at = now(), stage = NULL, rate = 0
       WHERE job = {job} AND state = 'PENDING' AND NOT EXISTS (
           SELECT FROM transfers l WHERE l.job = t.job AND l.index = t.leader AND l.traces)""",
    """UPDATE transfers SET cancelling = true, paused = false, next_attempt_at = least(next_attempt_at, now())
       WHERE job = {job} AND state IN ('PENDING', 'PREPARING', 'IN_PROGRESS')""",
    "UPDATE jobs SET files_cancelled = files_cancelled + {files} WHERE id = {job}",
    "UPDATE jobs SET finished_at = now(), state = 'CANCELLED' WHERE id = {job}",
    """INSERT INTO events (job, owner, file, kind, details)
       SELECT id, owner, NULL, 'cancelled', '{{}}' FROM jobs WHERE id = {job}""",
)
RETIRE = (
    "DELETE FROM events WHERE job = ANY (ARRAY[{job}])",
    """INSERT INTO events (job, owner, file, kind, details)
       SELECT e.job, j.owner, e.file, e.kind, coalesce(e.details, '{{}}')
       FROM ROWS FROM (jsonb_to_recordset('[{{"job": {job}, "kind": "expired"}}]')
                       AS (job integer, file integer, kind text, details jsonb))
                WITH ORDINALITY AS e (job, file, kind, details, position)
       CROSS JOIN LATERAL (SELECT owner FROM jobs WHERE id = e.job LIMIT 1) AS j ORDER BY e.position""",
    """INSERT INTO expired_jobs (id, owner) SELECT id, owner FROM jobs WHERE id = ANY (ARRAY[{job}])
       ON CONFLICT DO NOTHING""",
    "DELETE FROM jobs WHERE id = ANY (ARRAY[{job}])",
)
READ_EVENTS = "SELECT kind FROM events WHERE transaction < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY cursor"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Slices are of three rows, and whoever asks for a change stays for two of them."""
    for name in ("LEAST", "MOST"):
        monkeypatch.setattr(slices, name, 3)
    monkeypatch.setattr(SliceSize, "__init__", lambda self: setattr(self, "rows", 3))
    monkeypatch.setattr(changes, "PATIENCE", 0.0)
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri()}})
    yield rig
    await rig.close()


def before(rig: Rig, statements: tuple[str, ...], job: int) -> None:
    """Have a process of the version before do a transaction."""
    with transaction(rig.url, *(statement.format(job=job, files=FILES) for statement in statements)) as cursor:
        cursor.connection.commit()


async def asked(rig: Rig) -> int:
    return await rig.ask(*(file(place("archive", "a"), "archive", f"{n}") for n in range(FILES)))


@pytest_twisted.ensureDeferred
async def test_cancelled_while_its_files_follow(rig: Rig) -> None:
    """What the version before cancels, while this one still pauses its files, is cancelled, and told as that once."""
    job = await asked(rig)
    await rig.store.pause(job)
    before(rig, CANCEL, job)
    while await Upkeep(rig.database).carry_out():
        pass
    record = await rig.store.job(job)
    assert (record.state, record.paused) == (State.CANCELLED, False)
    assert {one.state for one in await rig.store.files(job)} == {State.CANCELLED}
    assert await rig.kinds(job) == ["submitted", "paused", "cancelled"]
    assert await rig.database.fetch("SELECT FROM changes") == []


@pytest_twisted.ensureDeferred
async def test_retired_by_both(rig: Rig) -> None:
    """What the version before retires at once, while this one does it in slices, is gone."""
    job = await asked(rig)
    await rig.store.cancel(job)
    upkeep = Upkeep(rig.database, retention=lambda: DAY)
    while await upkeep.carry_out():
        pass
    await rig.database.execute("UPDATE jobs SET finished_at = now() - interval '2 days'")
    for _ in range(4):
        assert await upkeep.retire_some()
    before(rig, RETIRE, job)
    assert await upkeep.retire() == 0
    assert await rig.database.fetch("SELECT FROM transfers UNION ALL SELECT FROM retiring") == []
    assert [(event.job, event.kind) for event in await rig.store.events()] == [(job, "expired")]
    with pytest.raises(ExpiredJob):
        await rig.store.job(job)


@pytest_twisted.ensureDeferred
async def test_history_read_by_the_version_before(rig: Rig) -> None:
    """What this version writes the version before reads."""
    job = await asked(rig)
    await rig.store.pause(job)
    rows = await rig.database.fetch(READ_EVENTS)
    assert [row["kind"] for row in rows] == ["submitted", "paused"]


@pytest_twisted.ensureDeferred
async def test_migrated_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration waits for who writes, makes way where that takes long, and holds for all who write after it."""
    monkeypatch.setattr(migrate, "_PATIENCE", "SET LOCAL lock_timeout = '200ms'")
    url = shared().fresh()
    steps = migrate.available()
    database = Database(reactor, address(url), 2)
    await database.open()
    try:
        await migrate.migrate(database, steps[:4])
        told = "INSERT INTO events (job, owner, kind) VALUES (1, 'a', '{}')"
        session = psycopg2.connect(url)
        session.cursor().execute(told.format("first"))
        with pytest.raises(NotNow):
            await migrate.migrate(database, steps)
        await database.execute(told.format("second"))
        session.commit()
        assert len(await migrate.migrate(database, steps)) == len(steps) - 4
        session.cursor().execute(told.format("third"))
        (row,) = await database.fetch("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory'")
        assert row["n"] == 1
        session.close()
    finally:
        await database.close()
