"""What is asked of a job with many files: they follow a slice at a time, and nobody waits for them."""

from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from datamover.errors import ConnectionLost, SourceNotFound
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.upkeep import changes, slices
from datamover.jobs.upkeep.slices import SliceSize
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import Naming, NewFile, State, UrlSource
from datamover.jobs.work import Group, Outcome
from datamover.postgres.database import Database
from tests.engine.rig import PATIENCE, Rig, file, place
from tests.servers.path import path_to
from tests.servers.postgres import address, shared, transaction
from tests.servers.refusing import LASTING, Refusal

FILES = 20
NUMBERS = count()
"""No two jobs have the same targets."""
BOUNDS = QueueLimits(destinations={"archive": 100})
NODE = "00000000-0000-0000-0000-00000000000a"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Slices are of three files."""
    for name in ("LEAST", "MOST"):
        monkeypatch.setattr(slices, name, 3)
    monkeypatch.setattr(SliceSize, "__init__", lambda self: setattr(self, "rows", 3))
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri(), "max_active": 100}})
    yield rig
    await rig.close()


@pytest.fixture
def queue(rig: Rig) -> Queue:
    return node(rig)


@pytest.fixture
def left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a change stays for two slices of it."""
    monkeypatch.setattr(changes, "PATIENCE", 0.0)


def node(rig: Rig, name: str = NODE, database: Database | None = None) -> Queue:
    return Queue(database or rig.database, rig.seal, node=name, name=name, roles=["engine"])


async def asked(rig: Rig, files: int = FILES, **more: Any) -> int:
    there = f"{next(NUMBERS)}"
    return await rig.ask(*(file(place("archive", "a"), "archive", f"{there}/{n}") for n in range(files)), **more)


async def until(rig: Rig, query: str) -> None:
    """Ask until there is an answer."""
    deadline = reactor.seconds() + PATIENCE
    while not await rig.database.fetch(query):
        assert reactor.seconds() < deadline, query
        await deferLater(reactor, 0.02)


async def states(rig: Rig, job: int) -> Counter[State]:
    return Counter(one.state for one in await rig.store.files(job, limit=1000))


async def claimed(queue: Queue, room: int) -> list[Group]:
    return await queue.claim(BOUNDS, room)


async def settled(queue: Queue, groups: list[Group], state: State, error: Any = None) -> None:
    await queue.settle([Outcome(one.leader, state, 1, error=error, size=1, digest="sha256:00") for one in groups])


@pytest_twisted.ensureDeferred
async def test_cancelled_in_slices(rig: Rig, queue: Queue) -> None:
    """What waits is cancelled, however many slices it takes; what runs is told; the job ends with the last of them."""
    job = await asked(rig)
    running = await claimed(queue, 2)
    record = await rig.store.cancel(job)

    assert record.state is State.IN_PROGRESS
    assert await states(rig, job) == {State.CANCELLED: FILES - 2, State.IN_PROGRESS: 2}
    assert set((await queue.stopping()).values()) != {None}
    await settled(queue, running, State.CANCELLED)
    assert (await rig.store.job(job)).state is State.CANCELLED
    assert await rig.database.fetch("SELECT FROM changes") == []


@pytest_twisted.ensureDeferred
async def test_whoever_asked_goes_away(rig: Rig, left_alone: None) -> None:
    """What its asker did not stay for any engine goes on with, to the same end; the job says so from the first on."""
    job = await asked(rig)
    record = await rig.store.cancel(job)
    assert (record.state, (await states(rig, job))[State.PENDING]) == (State.PENDING, FILES - 6)
    paused = await asked(rig)
    assert (await rig.store.pause(paused)).paused

    upkeep = Upkeep(rig.database)
    assert await upkeep.carry_out() > 0
    assert await upkeep.carry_out() == 0
    assert (await rig.store.job(job)).state is State.CANCELLED
    assert (await rig.kinds(job)) == ["submitted", "cancelled"]
    assert await claimed(node(rig), 100) == []
    await rig.store.resume(paused)
    assert await upkeep.carry_out() > 0
    assert len(await claimed(node(rig), 100)) == FILES


@pytest_twisted.ensureDeferred
async def test_another_mind_before_the_end(rig: Rig, left_alone: None) -> None:
    """Of what is asked one after the other the last holds for every file, wherever the first had come to."""
    upkeep = Upkeep(rig.database)
    job = await asked(rig)
    for verb in (rig.store.pause, rig.store.resume, rig.store.pause):
        await verb(job)
    await upkeep.carry_out()
    assert await claimed(node(rig), 100) == []
    await rig.store.resume(job)
    await rig.store.cancel(job)
    await upkeep.carry_out()
    assert await states(rig, job) == {State.CANCELLED: FILES}


@pytest_twisted.ensureDeferred
async def test_retried_in_slices(rig: Rig, queue: Queue, left_alone: None) -> None:
    """What failed is put back file by file; the job does not end before the last, and what fails again stays failed."""
    job = await asked(rig)
    groups = await claimed(queue, 100)
    await settled(queue, groups[:5], State.COMPLETED)
    await settled(queue, groups[5:], State.FAILED, SourceNotFound("it is not there"))
    assert (await rig.store.job(job)).state is State.PARTIAL

    record = await rig.store.retry(job)
    assert (record.state, record.files_failed) == (State.IN_PROGRESS, 0)
    assert (await states(rig, job))[State.PENDING] == 6
    again = await claimed(queue, 100)
    await settled(queue, again, State.FAILED, SourceNotFound("it is still not there"))
    assert not (await rig.store.job(job)).state.terminal
    await Upkeep(rig.database).carry_out()
    await settled(queue, await claimed(queue, 100), State.COMPLETED)
    record = await rig.store.job(job)
    assert (record.state, record.files_completed, record.files_failed) == (State.PARTIAL, FILES - 6, 6)
    assert await states(rig, job) == {State.COMPLETED: FILES - 6, State.FAILED: 6}


@pytest_twisted.ensureDeferred
async def test_a_group_is_put_back_whole(rig: Rig, queue: Queue, left_alone: None) -> None:
    """Nobody takes up a group of which some files are still to be put back."""
    sources = [
        NewFile(UrlSource(f"http://127.0.0.1/{n}", f"http://127.0.0.1/{n}"), "archive", "a.zip", Naming.EXACT)
        for n in range(FILES)
    ]
    job = await rig.ask(*sources, archive="zip")
    (group,) = await claimed(queue, 100)
    assert len(group.transfers) == FILES
    await settled(queue, [group], State.FAILED, SourceNotFound("it is not there"))
    assert await states(rig, job) == {State.FAILED: FILES}
    await rig.store.retry(job)
    assert await claimed(queue, 100) == []
    await Upkeep(rig.database).carry_out()
    (group,) = await claimed(queue, 100)
    assert {one.attempt for one in group.transfers} == {1}
    assert await states(rig, job) == {State.PREPARING: FILES}


@pytest_twisted.ensureDeferred
async def test_stopped_in_slices(rig: Rig, queue: Queue) -> None:
    """A failure that is to stop a job stops a first slice at once, and engines stop the others."""
    job = await asked(rig, stop_on_failure=True)
    await settled(queue, await claimed(queue, 1), State.FAILED, SourceNotFound("it is not there"))
    assert (await states(rig, job))[State.CANCELLED] == 2
    await Upkeep(rig.database).carry_out()
    assert await states(rig, job) == {State.CANCELLED: FILES - 1, State.FAILED: 1}
    assert (await rig.store.job(job)).state is State.FAILED
    assert (await rig.kinds(job)).count("cancelled") == FILES - 1


@pytest_twisted.ensureDeferred
async def test_overdue_in_slices(rig: Rig, queue: Queue) -> None:
    """What waits past its deadline fails; what was running, and came back to wait for another attempt, does too."""
    job = await asked(rig, deadline=3600.0)
    running = await claimed(queue, 2)
    await rig.database.execute("UPDATE jobs SET deadline = now() - interval '1 second'")
    upkeep = Upkeep(rig.database)
    assert await upkeep.carry_out() > 0
    assert await upkeep.carry_out() == 0
    assert await states(rig, job) == {State.FAILED: FILES - 2, State.IN_PROGRESS: 2}
    await queue.settle([Outcome(one.leader, State.PENDING, 1, 3600.0, ConnectionLost("it broke")) for one in running])
    assert await upkeep.carry_out() > 0
    record = await rig.store.job(job)
    assert record.state is State.FAILED
    assert record.error is not None
    assert record.error["code"] == "DEADLINE_EXCEEDED"
    await upkeep.carry_out()
    assert await rig.database.fetch("SELECT FROM changes") == []


@pytest_twisted.ensureDeferred
async def test_overdue_jobs_that_cannot_end(rig: Rig) -> None:
    """A thousand jobs past their deadline that wait for a sweep keep no other from its end."""
    stuck = """
        WITH made AS (
            INSERT INTO jobs (owner, method, label, overwrite, max_attempts, priority, stop_on_failure, files_total,
                              files_sized, bytes_sized, deadline)
            SELECT 'tester', 'jobs.submit', '', 'never', 5, 3, false, 1, 0, 0, now() - interval '1 hour'
            FROM generate_series(1, 1000) RETURNING id)
        INSERT INTO transfers (job, index, leader, owner, priority, source_host, source_url, destination, path, naming,
                               traces, attempt)
        SELECT id, 0, 0, 'tester', 3, 'web h', 'http://h/', 'archive', 'f', 'exact', true, 1 FROM made
    """
    await rig.database.execute(stuck)
    job = await asked(rig, deadline=3600.0)
    await rig.database.execute(f"UPDATE jobs SET deadline = now() - interval '1 second' WHERE id = {job}")
    upkeep = Upkeep(rig.database)
    while await upkeep.carry_out():
        pass
    assert (await rig.store.job(job)).state is State.FAILED


@pytest.mark.parametrize(
    ("operation", "when"), [("DELETE", "OLD"), ("UPDATE", "OLD.follow IS NULL AND NEW"), ("INSERT", "NEW")]
)
@pytest_twisted.ensureDeferred
async def test_one_that_is_refused(rig: Rig, queue: Queue, operation: str, when: str) -> None:
    """A change that the database does not forget, look at again or begin holds up those of no other job."""
    refused, other = [await asked(rig, files=1, deadline=3600.0) for _ in range(2)]
    refusal = Refusal("changes", operation, f"{when}.job = {refused}", LASTING[0])
    await rig.database.execute(refusal.begin)
    running = await claimed(queue, 2)
    await rig.database.execute("UPDATE jobs SET deadline = now() - interval '1 second'")
    upkeep = Upkeep(rig.database)
    await upkeep.carry_out()
    await queue.settle([Outcome(one.leader, State.PENDING, 1, 3600.0, ConnectionLost("it broke")) for one in running])
    for _ in range(3):
        await upkeep.carry_out()
    assert (await rig.store.job(other)).state is State.FAILED
    assert await rig.database.fetch(f"SELECT FROM changes WHERE job = {other}") == []
    assert await refusal.count(rig.database) > 0


@pytest_twisted.ensureDeferred
async def test_claims_beside_a_slice_that_waits(rig: Rig) -> None:
    """While a cancellation waits for a row that somebody holds, jobs are claimed; none of what it has locked."""
    large, small = await asked(rig), await asked(rig, files=2)
    row = f"SELECT FROM transfers WHERE job = {large} AND index = 1 FOR UPDATE"
    with transaction(rig.url, row) as holding:
        cancelling = Deferred.fromCoroutine(rig.store.cancel(large))
        await until(rig, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        groups = await claimed(node(rig), 100)
        assert {group.leader.job for group in groups} == {small}
        await settled(node(rig), groups, State.COMPLETED)
        assert not cancelling.called
        holding.connection.rollback()
        await cancelling
    assert (await rig.store.job(large)).state is State.CANCELLED


@pytest.mark.parametrize("verb", ["cancel", "pause", "retry"])
@pytest_twisted.ensureDeferred
async def test_a_later_slice_that_cannot_go_on(rig: Rig, queue: Queue, verb: str) -> None:
    """A change that is stored is not reported as refused when its later files are locked; engines continue it."""
    job, locked = await asked(rig), FILES // 2
    if verb == "retry":
        await settled(queue, await claimed(queue, 100), State.FAILED, SourceNotFound("it is not there"))
    with transaction(rig.url, f"SELECT FROM transfers WHERE job = {job} AND index = {locked} FOR UPDATE"):
        record = await getattr(rig.store, verb)(job)
        assert (record.state, record.paused) == (
            State.IN_PROGRESS if verb == "retry" else State.PENDING,
            verb == "pause",
        )
    await Upkeep(rig.database).carry_out()
    if verb == "cancel":
        assert (await rig.store.job(job)).state is State.CANCELLED
    else:
        assert len(await claimed(queue, 100)) == (FILES if verb == "retry" else 0)


@pytest_twisted.ensureDeferred
async def test_claims_beside_a_job_that_is_locked(rig: Rig) -> None:
    """A job that somebody holds is left for later, if it is to begin; one that has begun is worked on all the same."""
    begun, waiting, free = [await asked(rig, files=2) for _ in range(3)]
    assert [group.leader.job for group in await claimed(node(rig), 1)] == [begun]
    with transaction(rig.url, f"SELECT FROM jobs WHERE id IN ({begun}, {waiting}) FOR UPDATE"):
        groups = await claimed(node(rig), 100)
        assert Counter(group.leader.job for group in groups) == {begun: 1, free: 2}
    groups = await claimed(node(rig), 100)
    assert Counter(group.leader.job for group in groups) == {waiting: 2}


@pytest_twisted.ensureDeferred
async def test_takeovers_and_deadlines_beside_a_job_that_is_locked(rig: Rig, queue: Queue) -> None:
    """What a dead node held, and what is overdue, is seen to while somebody holds another job of each kind."""
    held, free = await asked(rig, files=2), await asked(rig, files=2)
    assert len(await claimed(queue, 3)) == 3
    late = "UPDATE transfers SET lease_until = now() - interval '1 second' WHERE node IS NOT NULL"
    await rig.database.execute(late)
    await rig.database.execute("UPDATE jobs SET deadline = now() - interval '1 second'")
    upkeep = Upkeep(rig.database)
    with transaction(rig.url, f"SELECT FROM jobs WHERE id = {held} FOR UPDATE"):
        assert await queue.take_over() == 1
        assert await upkeep.carry_out() == 1
        assert await states(rig, free) == {State.PENDING: 1, State.FAILED: 1}
        assert await states(rig, held) == {State.IN_PROGRESS: 2}
    assert await queue.take_over() == 2
    assert await upkeep.carry_out() > 0


@pytest_twisted.ensureDeferred
async def test_claims_beside_one_whose_process_stands_still(rig: Rig) -> None:
    """A process that sends a claim, and then hears and says nothing more, keeps nobody from claiming."""
    await asked(rig)
    with path_to(shared().server.port) as path:
        database = Database(reactor, address(rig.url.replace(f":{shared().server.port}", f":{path.port}")), 2)
        await database.open()
        other = node(rig, "00000000-0000-0000-0000-00000000000b", database)
        assert len(await claimed(other, 1)) == 1
        path.mute()
        standing = Deferred.fromCoroutine(claimed(other, 1))
        await until(rig, "SELECT FROM transfers HAVING count(node) = 2")
        assert len(await claimed(node(rig), 100)) == FILES - 2
        await database.close()
        await DeferredList([standing], consumeErrors=True)
