"""The history as readers follow it: in the order of cursors, each event once, whoever else has a transaction open."""

import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from datamover.audit.trail import AuditEvent, AuditStore
from datamover.jobs.feed import Feed
from datamover.jobs.values import Event
from datamover.postgres import session
from datamover.postgres.database import Database, Row
from tests.engine.rig import PATIENCE, Rig, file, place
from tests.servers import postgres
from tests.servers.postgres import transaction

TOLD = "INSERT INTO events (job, owner, kind) VALUES ({job}, 'tester', '{kind}')"
"""As any version of datamover writes it."""


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri()}})
    yield rig
    await rig.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def told(rig: Rig, after: int = 0) -> list[str]:
    return [event.kind for event in await rig.store.events(after=after, limit=1000)]


async def until(rig: Rig, condition: Callable[[list[Event]], Any]) -> list[Event]:
    """Read the history until it is as it should be."""
    deadline = reactor.seconds() + PATIENCE
    while not condition(events := await rig.store.events(limit=1000)):
        assert reactor.seconds() < deadline, events
        await deferLater(reactor, 0.02)
    return events


@pytest_twisted.ensureDeferred
async def test_others_have_transactions_open(rig: Rig, stack: ExitStack) -> None:
    """Transactions that stay open, in another database and in this one, and idle snapshots, hold no event up."""
    another = postgres.shared().fresh()
    changing = stack.enter_context(transaction(another, "CREATE TABLE things AS SELECT pg_current_xact_id() AS n"))
    here = "CREATE TABLE things AS SELECT pg_current_xact_id() AS n"
    looking = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    idle = [
        stack.enter_context(transaction(rig.url, here)),
        stack.enter_context(transaction(rig.url, looking, "SELECT count(*) FROM events")),
        # A lock of another's, of a number like ours in another database, and like none of ours in this one.
        stack.enter_context(transaction(another, "SELECT pg_advisory_xact_lock_shared((25709::bigint << 48))")),
        stack.enter_context(transaction(rig.url, "SELECT pg_advisory_xact_lock(1), pg_advisory_xact_lock(25709, 0)")),
    ]
    await rig.engine()
    here_, there = place("archive", "a"), file(place("archive", "a"), "archive", "b")
    (rig.directory / "archive").mkdir()
    (rig.directory / "archive/a").write_bytes(b"a")
    record, _ = await rig.moved(there)
    assert await told(rig) == ["submitted", "started", "completed", "completed"]
    trail = AuditStore(rig.database)
    await trail.write([(record.submitted_at, AuditEvent("somebody", "here", "login"))])
    assert [entry.event.who for entry in await trail.read()] == ["somebody"]

    second = await rig.ask(file(here_, "archive", "c"))
    await rig.ended(second)
    assert len(await rig.store.events(job=second)) == 4
    for cursor in (changing, *idle):
        cursor.execute("SELECT 1")  # It is open to this moment.
        assert cursor.connection.status == psycopg2.extensions.STATUS_IN_TRANSACTION


@pytest_twisted.ensureDeferred
async def test_an_older_cursor_comes_later(rig: Rig, stack: ExitStack) -> None:
    """What is committed before an event with a smaller cursor is told after it, and what its reader has kept stays."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    (submitted,) = await rig.store.events()
    slow = stack.enter_context(transaction(rig.url, TOLD.format(job=job, kind="first")))
    with transaction(rig.url, TOLD.format(job=job, kind="second")) as quick:
        quick.connection.commit()

    assert await rig.store.events(after=submitted.cursor) == []
    assert await told(rig) == ["submitted"]
    slow.connection.commit()
    assert await told(rig, submitted.cursor) == ["first", "second"]


@pytest_twisted.ensureDeferred
async def test_a_younger_transaction_with_a_smaller_cursor(rig: Rig, stack: ExitStack) -> None:
    """Who began first does not come first: the order is that of the cursors, whatever a transaction did before."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    first = stack.enter_context(transaction(rig.url, f"UPDATE jobs SET label = 'x' WHERE id = {job}"))
    second = stack.enter_context(transaction(rig.url, TOLD.format(job=job, kind="of the younger")))
    first.execute(TOLD.format(job=job, kind="of the older"))
    first.connection.commit()

    assert await told(rig) == ["submitted"]
    second.connection.commit()
    assert await told(rig) == ["submitted", "of the younger", "of the older"]


@pytest_twisted.ensureDeferred
async def test_a_writer_that_gives_up(rig: Rig, stack: ExitStack) -> None:
    """The event of a transaction that was rolled back, to a savepoint or whole, or whose session was killed, is waited
    for no longer; what a transaction writes after such a savepoint is.
    """
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    killed = stack.enter_context(transaction(rig.url, TOLD.format(job=job, kind="killed")))
    rolled_back = stack.enter_context(transaction(rig.url, TOLD.format(job=job, kind="rolled back")))
    partly = stack.enter_context(transaction(rig.url, "SAVEPOINT s", TOLD.format(job=job, kind="partly")))
    with transaction(rig.url, TOLD.format(job=job, kind="stays")) as cursor:
        cursor.connection.commit()
    assert await told(rig) == ["submitted"]

    postgres.shared().server.run(f"SELECT pg_terminate_backend({killed.connection.get_backend_pid()})")
    rolled_back.connection.rollback()
    partly.execute("ROLLBACK TO s")
    await until(rig, lambda events: [event.kind for event in events] == ["submitted", "stays"])

    partly.execute(TOLD.format(job=job, kind="the rest"))
    with transaction(rig.url, TOLD.format(job=job, kind="later")) as cursor:
        cursor.connection.commit()
    assert await told(rig) == ["submitted", "stays"]
    partly.connection.commit()
    assert await told(rig) == ["submitted", "stays", "the rest", "later"]


@pytest_twisted.ensureDeferred
async def test_a_writer_that_stands_still(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still in the middle of a transaction holds the history up no longer than it may do that."""
    monkeypatch.setattr(session, "LIMITS", (session.LIMITS[0], "1000"))
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    own = Database(reactor, postgres.address(rig.url), 1)
    await own.open()
    stands: Deferred[None] = Deferred()

    async def stand(cursor: Any) -> None:
        await cursor.execute(TOLD.format(job=job, kind="never"))
        await stands

    standing = Deferred.fromCoroutine(own.transaction(stand)).addErrback(lambda _: None)
    await deferLater(reactor, 0.1)
    await rig.store.pause(job)
    assert await told(rig) == ["submitted"]
    await until(rig, lambda events: [event.kind for event in events] == ["submitted", "paused"])
    stands.callback(None)
    await standing
    await own.close()


@pytest_twisted.ensureDeferred
async def test_many_writers(rig: Rig) -> None:
    """Whoever keeps the last cursor reads each event that was committed once, in order, and none that was not."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    kept: list[str] = []
    left = 6
    lock = threading.Lock()

    def write(seed: int) -> None:
        nonlocal left
        dice = random.Random(seed)
        session = psycopg2.connect(rig.url)
        cursor = session.cursor()
        for number in range(60):
            mine = [f"{seed}.{number}.{part}" for part in range(dice.randint(1, 3))]
            for kind in mine:
                cursor.execute(TOLD.format(job=job, kind=kind))
                if dice.random() < 0.3:
                    time.sleep(dice.random() / 100)
            if dice.random() < 0.8:
                session.commit()
                with lock:
                    kept.extend(mine)
            else:
                session.rollback()
        session.close()
        left -= 1

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(left)]
    for thread in threads:
        thread.start()
    read: list[Event] = []
    while True:
        over = left == 0
        more = await rig.store.events(after=read[-1].cursor if read else 0, limit=7)
        read += more
        if over and not more:
            break
        await deferLater(reactor, 0)
    for thread in threads:
        thread.join()
    cursors = [event.cursor for event in read]
    assert cursors == sorted(set(cursors))
    assert sorted(event.kind for event in read) == sorted(["submitted", *kept])
    assert await rig.store.events(after=cursors[-1]) == []


@pytest_twisted.ensureDeferred
async def test_many_events_in_one_transaction(rig: Rig) -> None:
    """A transaction that writes to the history a thousand times has one lock for it."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    with transaction(rig.url) as cursor:
        for number in range(1000):
            cursor.execute(TOLD.format(job=job, kind=f"{number}"))
        cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'")
        assert cursor.fetchone() == (1,)
        assert await told(rig) == ["submitted"]
        cursor.connection.commit()
    assert len(await rig.store.events(limit=2000)) == 1001


@pytest_twisted.ensureDeferred
async def test_numbers_of_a_restored_database(rig: Rig) -> None:
    """Cursors that have been moved on many times over, by restores, are told as any others."""
    await rig.database.execute("SELECT setval('events_cursor_seq', 90000000000)")
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    with transaction(rig.url, TOLD.format(job=job, kind="one")) as cursor:
        await rig.store.pause(job)
        assert [event.cursor for event in await rig.store.events()] == [90000000001]
        cursor.connection.commit()
    assert [event.cursor for event in await rig.store.events()] == [90000000001 + n for n in range(3)]


@pytest.mark.parametrize("others", [False, True])
@pytest_twisted.ensureDeferred
async def test_numbers_that_went_back(rig: Rig, monkeypatch: pytest.MonkeyPatch, others: bool) -> None:
    """After a failover to a standby without the last events, callers wait for the next one as before, and get it."""
    looks = 0
    read_on = Feed.read_on

    async def counted(feed: Feed, parameters: Mapping[str, Any]) -> tuple[list[Row], int]:
        nonlocal looks
        looks += 1
        return await read_on(feed, parameters)

    monkeypatch.setattr(Feed, "read_on", counted)
    await rig.database.execute("SELECT setval('events_cursor_seq', 1000)")
    assert await rig.store.events(after=1000, timeout=1.5) == []
    waiting = [Deferred.fromCoroutine(rig.store.events(after=1000, timeout=PATIENCE))] if others else []
    await rig.database.execute("SELECT setval('events_cursor_seq', 10)")
    waiting.append(Deferred.fromCoroutine(rig.store.events(after=10, timeout=PATIENCE)))
    await deferLater(reactor, 2.0)
    looks = 0
    await deferLater(reactor, 1.0)
    assert looks < 3
    await rig.ask(file(place("archive", "a"), "archive", "b"))
    assert [event.cursor for event in await waiting.pop()] == [11]
    for one in waiting:
        one.cancel()
        with pytest.raises(CancelledError):
            await one
