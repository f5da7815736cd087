"""Old jobs go, a slice at a time, whatever their size; meanwhile they are told as expired, whole, and nobody waits."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from datamover.audit.trail import AuditEvent, AuditStore
from datamover.errors import ExpiredJob, UnknownJob
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.upkeep import slices
from datamover.jobs.upkeep.retirement import Retirement
from datamover.jobs.upkeep.slices import SliceSize
from datamover.jobs.upkeep.upkeep import DAY, Upkeep
from datamover.jobs.values import State
from datamover.jobs.work import Outcome
from tests.engine.rig import PATIENCE, Rig, file, place
from tests.servers.postgres import transaction

LARGE = 300_000
BOUNDS = QueueLimits(destinations={"archive": 100})
NODE = "00000000-0000-0000-0000-00000000000a"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri()}})
    yield rig
    await rig.close()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices are of ten rows."""
    for name in ("LEAST", "MOST"):
        monkeypatch.setattr(slices, name, 10)
    monkeypatch.setattr(SliceSize, "__init__", lambda self: setattr(self, "rows", 10))


async def old(rig: Rig, jobs: int = 1, files: int = 1, **more: Any) -> list[int]:
    """Return jobs that ended a year ago, with two events for each file; with one, if they are many."""
    columns = {"request_id": None, **more}
    made = await rig.database.fetch(
        """INSERT INTO jobs (owner, method, label, request_id, fingerprint, overwrite, max_attempts, priority,
                             stop_on_failure, state, files_total, files_failed, files_sized, bytes_sized, finished_at)
           SELECT 'tester', 'jobs.submit', '', %(request_id)s, 'x', 'never', 5, 3, false, 'FAILED', %(files)s,
                  %(files)s, 0, 0, now() - interval '1 year'
           FROM generate_series(1, %(jobs)s) RETURNING id""",
        {"jobs": jobs, "files": files, **columns},
    )
    ids = [row["id"] for row in made]
    await rig.database.execute(
        """INSERT INTO transfers (job, index, leader, owner, priority, source_host, source_url, destination, path,
                                  naming, state, attempt, finished_at)
           SELECT job, n, n, 'tester', 3, 'web h', 'http://h/', 'archive', 'f', 'exact', 'FAILED', 1, now()
           FROM unnest(%(jobs)s::integer[]) AS job CROSS JOIN generate_series(0, %(files)s - 1) AS n""",
        {"jobs": ids, "files": files},
    )
    await rig.database.execute(
        """INSERT INTO events (job, owner, file, kind, at)
           SELECT job, 'tester', n, kind, now() - interval '1 year'
           FROM unnest(%(jobs)s::integer[]) AS job CROSS JOIN generate_series(0, %(files)s - 1) AS n
           CROSS JOIN unnest(%(kinds)s::text[]) AS kind""",
        {"jobs": ids, "files": files, "kinds": ["started", "failed"] if files < LARGE else ["failed"]},
    )
    return ids


async def left(rig: Rig, table: str, job: int) -> int:
    column = "id" if table == "jobs" else "job"
    return int((await rig.database.fetch(f"SELECT count(*) AS n FROM {table} WHERE {column} = {job}"))[0]["n"])


def upkeep(rig: Rig) -> Upkeep:
    return Upkeep(rig.database, retention=lambda: 90 * DAY)


@pytest_twisted.ensureDeferred
async def test_a_large_job(rig: Rig) -> None:
    """A job of hundreds of thousands of files goes; meanwhile its owner is told that it has expired, and no less."""
    young = await rig.ask(file(place("archive", "a"), "archive", "b"))
    (job,) = await old(rig, files=LARGE, request_id="again")
    work = upkeep(rig)
    while not (slices_done := LARGE - await left(rig, "transfers", job)):
        assert await work.retire_some()

    assert slices_done < LARGE
    asking: list[Callable[[], Awaitable[Any]]] = [
        lambda: rig.store.job(job, "tester"),
        lambda: rig.store.job(job),
        lambda: rig.store.files(job, "tester"),
        lambda: rig.store.events("tester", job=job),
        lambda: rig.store.wait(job, 0.0, "tester"),
        lambda: rig.store.retry(job, "tester"),
        lambda: rig.store.cancel(job, "tester"),
        lambda: rig.store.renotify(job, "tester"),
    ]
    for ask in asking:
        with pytest.raises(ExpiredJob):
            await ask()
    with pytest.raises(UnknownJob):
        await rig.store.job(job, "somebody")
    assert [record.id for record in await rig.store.jobs("tester")] == [young]
    told = [(event.job, event.kind) for event in await rig.store.events("tester", limit=1000)]
    assert sorted(told) == [(young, "submitted"), (job, "expired")]
    again = await rig.ask(file(place("archive", "a"), "archive", "c"), request_id="again", fingerprint="x")
    assert again not in (job, young)

    # Another process goes on, from where this one came to.
    assert await upkeep(rig).retire() == 1
    assert [await left(rig, table, job) for table in ("jobs", "transfers", "retiring")] == [0, 0, 0]
    assert await left(rig, "events", job) == 1
    assert await left(rig, "transfers", young) == 1
    with pytest.raises(ExpiredJob):
        await rig.store.job(job, "tester")


@pytest_twisted.ensureDeferred
async def test_an_id_is_never_given_again(rig: Rig) -> None:
    """A job that is submitted after the newest was retired has a later id; the old id is told as expired."""
    (job,) = await old(rig)
    assert await upkeep(rig).retire() == 1
    assert await left(rig, "jobs", job) == 0
    assert await rig.ask(file(place("archive", "a"), "archive", "c")) > job
    with pytest.raises(ExpiredJob):
        await rig.store.job(job, "tester")


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_a_slice(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice that is held up holds up nobody: jobs are claimed, taken over, and ended by their deadline meanwhile."""
    monkeypatch.setattr(slices, "_LIMIT", "SELECT set_config('lock_timeout', '30000', true)")  # It waits all the while.
    (job,) = await old(rig, files=50)
    work = upkeep(rig)
    assert await work.retire_some()  # It is told as expired.
    queue = Queue(rig.database, rig.seal, node=NODE, name=NODE, roles=["engine"])
    waiting, taken, overdue = [await rig.ask(file(place("archive", "a"), "archive", f"{n}")) for n in range(3)]
    await rig.database.execute(f"UPDATE jobs SET deadline = now() WHERE id = {overdue}")
    with transaction(rig.url, f"SELECT FROM transfers WHERE job = {job} AND index = 30 FOR UPDATE") as holding:
        slice_ = Deferred.fromCoroutine(work.retire_some())
        while not await rig.database.fetch(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            assert not slice_.called
        groups = await queue.claim(BOUNDS, 1)
        assert [group.leader.job for group in groups] == [waiting]
        await queue.settle([Outcome(groups[0].leader, State.COMPLETED, 0, size=1, digest="sha256:00")])
        assert [group.leader.job for group in await queue.claim(BOUNDS, 1)] == [taken]
        await rig.database.execute(f"UPDATE transfers SET lease_until = now() WHERE job = {taken}")
        assert await queue.take_over() == 1
        assert await work.carry_out() == 1
        assert (await rig.store.job(overdue)).state is State.FAILED
        assert not slice_.called
        holding.connection.rollback()
        assert await slice_ == 1
    await work.retire()
    assert await left(rig, "jobs", job) == 0


@pytest_twisted.ensureDeferred
async def test_held_for_long(rig: Rig) -> None:
    """What somebody holds for longer than the smallest slice is tried for is left, and retired once it is free."""
    (job,) = await old(rig)
    (other,) = await old(rig)
    now = [0.0]
    work = Upkeep(rig.database, monotonic=lambda: now[0])
    assert await work.retire_some()
    with transaction(rig.url, f"SELECT FROM transfers WHERE job = {job} FOR UPDATE"):
        assert await work.retire() == 1
    assert [await left(rig, "jobs", one) for one in (job, other)] == [1, 0]
    now[0] += 60.0
    assert await work.retire() == 1


@pytest_twisted.ensureDeferred
async def test_one_process_at_a_time(rig: Rig) -> None:
    """While one process does a slice another does none, and does not wait for it."""
    (job,) = await old(rig, files=50)
    work = upkeep(rig)
    assert await work.retire_some()
    with transaction(rig.url, "SELECT pg_try_advisory_xact_lock(hashtext('datamover.retire'))"):
        assert not await work.retire_some()
    assert await left(rig, "transfers", job) == 50
    assert await work.retire() == 1


@pytest_twisted.ensureDeferred
async def test_slices_have_rows_of_any_number_of_jobs(rig: Rig, small_slices: None) -> None:
    """Of small jobs a slice ends several, of a large one it ends a part; all of them go, and nothing of others."""
    jobs = [*await old(rig, jobs=7), *await old(rig, files=33), *await old(rig, jobs=3, files=2)]
    kept = await rig.ask(file(place("archive", "a"), "archive", "b"))
    counts = []
    retirement = Retirement(rig.database, lambda: 90 * DAY, lambda: 365 * DAY)
    while await retirement.go_on():
        (row,) = await rig.database.fetch("SELECT count(*) AS n FROM transfers")
        counts.append(row["n"])
    assert retirement.retired == len(jobs)
    assert max(before - after for before, after in pairwise(counts)) <= 10
    assert counts[-1] == 1
    rows = await rig.database.fetch("SELECT id FROM jobs UNION ALL SELECT job FROM retiring")
    assert [row["id"] for row in rows] == [kept]
    kinds = [(event.job, event.kind) for event in await rig.store.events(limit=1000) if event.job != kept]
    assert sorted(kinds) == [(job, "expired") for job in sorted(jobs)]


@pytest_twisted.ensureDeferred
async def test_what_is_told_of_expired_jobs_goes_too(rig: Rig, small_slices: None) -> None:
    """After as long again nothing tells any more that jobs have expired; old events of jobs that live stay."""
    kept = await rig.ask(file(place("archive", "a"), "archive", "b"))
    await rig.database.execute(
        f"""INSERT INTO events (job, owner, kind, at)
            SELECT CASE n % 3 WHEN 0 THEN {kept} ELSE 1000000 + n END, 'tester',
                   CASE n % 3 WHEN 0 THEN 'retrying' ELSE 'expired' END, now() - n * interval '1 day'
            FROM generate_series(80, 139) AS n"""
    )
    work = upkeep(rig)
    await work.retire()
    rows = await rig.database.fetch("SELECT kind, count(*)::integer AS n FROM events GROUP BY kind ORDER BY kind")
    assert [(row["kind"], row["n"]) for row in rows] == [("expired", 7), ("retrying", 20), ("submitted", 1)]
    assert await work.retire() == 0


@pytest_twisted.ensureDeferred
async def test_old_deeds_go_in_slices(rig: Rig, small_slices: None) -> None:
    """Deeds that are older than they are kept go, however many."""
    trail = AuditStore(rig.database)
    await trail.write([(datetime(2020, 1, 1, tzinfo=UTC), AuditEvent("somebody", "here", "login")) for _ in range(35)])
    await trail.write([(datetime.now(UTC), AuditEvent("else", "here", "login"))])
    assert await upkeep(rig).retire() == 0
    assert [entry.event.who for entry in await trail.read()] == ["else"]


@pytest_twisted.ensureDeferred
async def test_the_engine_retires(rig: Rig) -> None:
    """Running engines retire what is old, beside their work."""
    jobs = await old(rig, jobs=20)
    await rig.engine()
    deadline = reactor.seconds() + PATIENCE
    while (await rig.database.fetch("SELECT count(*)::integer AS n FROM expired_jobs"))[0]["n"] < len(jobs):
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.05)
    while await rig.database.fetch("SELECT FROM jobs"):
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.05)
