"""What is told of attempts: their number, that one goes on from where another was, when the next is due."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from datamover.errors import ConnectionLost
from datamover.jobs.queue.queue import Queue
from datamover.jobs.values import Progress, State
from datamover.jobs.work import Group, Outcome
from tests.engine.rig import PATIENCE, Rig, file, place, url
from tests.engine.test_breaking import sent
from tests.engine.test_queue import became
from tests.servers.postgres import transaction
from tests.servers.web import File, Web

MIB = 2**20
NODE = "00000000-0000-0000-0000-00000000000a"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a").write_bytes(b"a")
    rig = await Rig(reactor, tmp_path).open(
        {
            "archive": {"url": (tmp_path / "archive").as_uri()},
            "slow": {"url": (tmp_path / "slow").as_uri(), "bandwidth": "20MB/s"},
        }
    )
    yield rig
    await rig.close()


def node(rig: Rig) -> Queue:
    return Queue(rig.database, rig.seal, node=NODE, name=NODE, roles=["engine"])


@pytest_twisted.ensureDeferred
async def test_resumed_is_told_at_once(rig: Rig, web: Web) -> None:
    """That a file goes on from where it was is told while it moves, once, and before its end."""
    web.route("/f", File(os.urandom(64 * MIB), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"), max_attempts=1)
    await sent(rig, job, 1)
    for turn in (1, 2):
        await rig.store.pause(job)
        await became(rig, job, lambda record: record.stage is None)
        await rig.store.resume(job)
        deadline = reactor.seconds() + PATIENCE
        while (await rig.kinds(job)).count("resumed") < turn:
            assert reactor.seconds() < deadline
            await deferLater(reactor, 0.02)
        record = await rig.store.job(job)
        assert record.state is State.IN_PROGRESS
        assert record.bytes_done < 64 * MIB
        assert (record.attempt, record.max_attempts) == (1, 1), "a pause is no attempt"
    assert (await rig.ended(job)).state is State.COMPLETED
    events = [event for event in await rig.store.events(job=job) if event.file == 0]
    assert [event.kind for event in events] == ["started", *(["started", "resumed"] * 2), "completed"]
    assert {event.details["attempt"] for event in events if event.kind == "started"} == {1}
    assert [event.details["from"] > 0 for event in events if event.kind == "resumed"] == [True, True]


@pytest_twisted.ensureDeferred
async def test_resumed_under_a_lease_that_was_lost(rig: Rig) -> None:
    """Whoever has lost a lease tells nothing of where it goes on from."""
    await rig.ask(file(place("archive", "a"), "archive", "b"))
    (group,) = await node(rig).claim(rig.limits, 1)
    leader = group.leader
    for lease in (leader.lease, leader.lease + 1):
        news = Progress(leader.id, lease, 5, 10, 0.0, "moving", None, None, {"from": 5, "resent": 0})
        await node(rig).progress([news])
    events = await rig.store.events()
    assert [(event.kind, event.details) for event in events][2:] == [("resumed", {"from": 5, "resent": 0})]


@pytest_twisted.ensureDeferred
async def test_progress_locks_jobs_first(rig: Rig) -> None:
    """Progress with a new size waits for who has locked the job, and holds no lock on the file meanwhile."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"))
    (group,) = await node(rig).claim(rig.limits, 1)
    with transaction(rig.url, f"SELECT id FROM jobs WHERE id = {job} FOR UPDATE") as cursor:
        news = Progress(group.leader.id, group.leader.lease, 5, 10, 0.0, "moving", None, None)
        written = Deferred.fromCoroutine(node(rig).progress([news]))
        await deferLater(reactor, 0.3)
        cursor.execute("SET lock_timeout = '100ms'")
        cursor.execute(f"UPDATE transfers SET paused = true WHERE job = {job}")
        cursor.connection.commit()
        await written
    (moved,) = await rig.store.files(job)
    assert (moved.bytes_done, moved.size) == (5, 10)


@pytest_twisted.ensureDeferred
async def test_takeover_is_no_attempt(rig: Rig) -> None:
    """What another goes on with has the number that it had; what failed, and used one up, has the next."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"), max_attempts=2)
    queue = node(rig)
    for failures in (0, 1):
        for _ in range(3):
            (group,) = await queue.claim(rig.limits, 1)
            assert group.leader.attempt == failures + 1
            assert (await rig.store.job(job)).attempt == failures + 1
            await rig.database.execute("UPDATE transfers SET lease_until = now() WHERE node IS NOT NULL")
            assert await queue.take_over() == 1
        (group,) = await queue.claim(rig.limits, 1)
        state = State.FAILED if failures else State.PENDING
        await queue.settle([Outcome(group.leader, state, failures + 1, error=ConnectionLost("it broke"))])
    record = await rig.store.job(job)
    assert (record.state, record.attempt) == (State.FAILED, 2)
    assert record.error is not None
    assert record.error["attempt"] == 2
    await rig.store.retry(job)
    (group,) = await queue.claim(rig.limits, 1)
    assert group.leader.attempt == 1


@pytest_twisted.ensureDeferred
async def test_numbers_of_the_version_before(rig: Rig) -> None:
    """Rows in which pauses and takeovers were counted never read as more attempts than there may be."""
    job = await rig.ask(file(place("archive", "a"), "archive", "b"), max_attempts=3)
    await node(rig).claim(rig.limits, 1)
    await rig.database.execute("UPDATE transfers SET attempt = 7")
    assert (await rig.store.job(job)).attempt == 3
    assert [one.attempt for one in await rig.store.files(job)] == [3]
    assert [one["attempt"] for one in await rig.store.active()] == [3]


@pytest_twisted.ensureDeferred
async def test_no_next_attempt_of_a_paused_job(rig: Rig) -> None:
    """While a job is paused no time of a next attempt is told: not of it, nor of its files, nor in its history."""
    job = await rig.ask(*(file(place("archive", "a"), "archive", f"{n}") for n in range(2)))
    queue = node(rig)
    first, second = await queue.claim(rig.limits, 2)

    def again(group: Group) -> Outcome:
        return Outcome(group.leader, State.PENDING, 1, 3600.0, ConnectionLost("it broke"))

    await queue.settle([again(first)])
    assert (await rig.store.job(job)).next_retry_at is not None
    assert [one.next_retry_at is None for one in await rig.store.files(job)] == [False, True]

    await rig.store.pause(job)
    await queue.settle([again(second)])
    record = await rig.store.job(job)
    assert (record.next_retry_at, record.waiting_for) == (None, "jobs.resume: the job is paused")
    assert [one.next_retry_at for one in await rig.store.files(job)] == [None, None]
    told = [event.details for event in await rig.store.events(job=job) if event.kind == "retrying"]
    assert ["next_retry_at" in details for details in told] == [True, False]

    await rig.store.resume(job)
    assert len(await queue.claim(rig.limits, 2)) == 2
