"""The queue: who is next, who must wait and why, and what clients and administrators change about it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from datamover.errors import ConnectFailed, ExpiredJob, InvalidState, QueueFull, Scope, Unavailable, UnknownJob
from datamover.jobs import submission
from datamover.jobs.queue.limits import QueueLimits, Quota
from datamover.jobs.queue.queue import Queue
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import JobRecord, Overwrite, State, Transfer
from tests.engine.rig import PATIENCE, Rig, file, parts, place, url
from tests.engine.test_breaking import sent
from tests.servers.web import File, Web
from tests.waiting import until

MIB = 2**20


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a").write_bytes(b"a")
    rig = await Rig(reactor, tmp_path).open(
        {
            "archive": {"url": f"faulty://{tmp_path}/archive", "max_active": 1},
            "other": {"url": (tmp_path / "other").as_uri(), "max_active": 4},
            "slow": {"url": (tmp_path / "slow").as_uri(), "bandwidth": "20MB/s"},
        },
        limits=QueueLimits(per_source_host=2, queued=50),
    )
    yield rig
    await rig.close()


class Order:
    """Notes the order in which files are placed."""

    def __init__(self, rig: Rig) -> None:
        self.placed: list[str] = []
        self.gate: Deferred[None] | None = None
        rig.faulty.before = self.before

    async def before(self, operation: str, path: str) -> None:
        if operation == "write" and self.gate is not None:
            await self.gate
        if operation == "place":
            self.placed.append(path)


async def became(rig: Rig, job: int, condition: Callable[[JobRecord], Any]) -> JobRecord:
    """Wait until a job is as it should be."""
    deadline = reactor.seconds() + PATIENCE
    while not condition(record := await rig.store.job(job)):
        assert reactor.seconds() < deadline, record
        await deferLater(reactor, 0.02)
    return record


@pytest_twisted.ensureDeferred
async def test_priority_and_turns(rig: Rig) -> None:
    """Owners take turns, whatever their priorities; each has its highest priority go first, and of that its oldest."""
    order = Order(rig)
    here = place("archive", "a")
    for number in range(3):
        await rig.ask(file(here, "archive", f"ann/{number}"), owner="ann")
    await rig.ask(file(here, "archive", "bob/0"), owner="bob")
    await rig.ask(file(here, "archive", "low/0"), owner="cat", priority=1)
    last = await rig.ask(file(here, "archive", "high/0"), owner="ann", priority=5)
    await rig.engine()
    await until(lambda: len(order.placed) == 6)

    assert order.placed == ["high/0", "bob/0", "low/0", "ann/0", "ann/1", "ann/2"]
    assert (await rig.ended(last)).priority == 5


@pytest_twisted.ensureDeferred
async def test_a_full_destination_delays_no_other(rig: Rig) -> None:
    """While one destination is full, with many files waiting for it, another's file moves at once."""
    order = Order(rig)
    order.gate = Deferred()
    here = place("archive", "a")
    full = await rig.ask(*(file(here, "archive", f"full/{number}") for number in range(40)))
    await rig.engine(max_active=4)
    await became(rig, full, lambda job: job.stage is not None)
    quick = await rig.ask(file(here, "other", "quick"))
    ended = await rig.ended(quick)
    waiting = await rig.ask(file(here, "archive", "next"))
    told = (await rig.store.job(waiting)).waiting_for
    order.gate.callback(None)
    order.gate = None
    await rig.ended(full)

    assert ended.state is State.COMPLETED
    assert told == "destination archive: 1 of 1 transfer active, 39 ahead"


@pytest_twisted.ensureDeferred
async def test_limit_of_a_source_host(rig: Rig, web: Web) -> None:
    """No more than so many files are read from one host at once, whatever their destinations."""
    busy, most = 0, 0
    gate: Deferred[None] = Deferred()

    async def answer(exchange: Any) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        waiter: Deferred[None] = Deferred()
        gate.chainDeferred(waiter) if not gate.called else waiter.callback(None)
        await waiter
        busy -= 1
        exchange.answer(200, body=b"x")

    web.route("/f", answer)
    await rig.engine()
    job = await rig.ask(*(file(url(f"{web.url}/f"), "other", str(number)) for number in range(6)))
    await until(lambda: busy == 2)
    record = await rig.store.job(job)
    gate.callback(None)

    assert record.files_completed == 0
    assert (await rig.ended(job)).state is State.COMPLETED
    assert most == 2


@pytest_twisted.ensureDeferred
async def test_resume_what_waits_for_its_next_attempt(rig: Rig, web: Web, tmp_path: Path) -> None:
    """Whoever has mended what was wrong need not wait for the next attempt."""
    web.route("/f", lambda exchange: exchange.answer(503, [("Retry-After", "3600")]))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=5)
    await became(rig, job, lambda record: record.error is not None)

    web.route("/f", File(b"f", etag='"1"'))
    await rig.store.resume(job)

    assert (await rig.ended(job)).state is State.COMPLETED
    assert (tmp_path / "archive/f").read_bytes() == b"f"
    assert "resumed_by" in await rig.kinds(job)


@pytest_twisted.ensureDeferred
async def test_pause_and_resume(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A paused job gives up its place and keeps what arrived; resumed, it goes on from there."""
    content = os.urandom(96 * MIB)
    web.route("/f", File(content, etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await sent(rig, job, 1)

    paused = await rig.store.pause(job)
    still = await became(rig, job, lambda record: record.stage is None)
    rig.lift_limits()
    resumed = await rig.store.resume(job)
    ended = await rig.ended(job)

    assert paused.paused
    assert still.waiting_for == "jobs.resume: the job is paused"
    assert still.bytes_done > 0
    assert not resumed.paused
    assert ended.state is State.COMPLETED
    assert (tmp_path / "slow/f").read_bytes() == content
    kinds = await rig.kinds(job)
    assert [kind for kind in kinds if kind in ("paused", "resumed_by", "resumed")] == [
        "paused",
        "resumed_by",
        "resumed",
    ]
    with pytest.raises(InvalidState):
        await rig.store.pause(job)


@pytest_twisted.ensureDeferred
async def test_pause_while_the_database_goes_away(rig: Rig, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused transfer whose release fails is released when the database is back, not when its lease runs out."""
    release = Queue.release

    async def away_once(queue: Queue, held: Sequence[Transfer]) -> None:
        monkeypatch.setattr(Queue, "release", release)
        raise Unavailable("the database is away")

    web.route("/f", File(os.urandom(96 * MIB), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await sent(rig, job, 1)
    monkeypatch.setattr(Queue, "release", away_once)
    await rig.store.pause(job)
    await became(rig, job, lambda record: record.stage is None)
    assert await rig.database.fetch("SELECT late FROM transfers") == [{"late": False}]


@pytest_twisted.ensureDeferred
async def test_pause_before_it_begins(rig: Rig) -> None:
    """A job that is paused before its start stays PENDING, and can be cancelled."""
    job = await rig.ask(file(place("archive", "a"), "other", "b"))
    await rig.store.pause(job)
    await rig.engine()
    after = await rig.ask(file(place("archive", "a"), "other", "c"))
    await rig.ended(after)

    assert (await rig.store.job(job)).state is State.PENDING
    assert (await rig.store.cancel(job)).state is State.CANCELLED


@pytest_twisted.ensureDeferred
async def test_deadline(rig: Rig, web: Web, tmp_path: Path) -> None:
    """What is not in place by its deadline fails, running or waiting, and leaves nothing behind."""
    web.route("/f", File(os.urandom(96 * MIB), etag='"1"'))
    waiting = await rig.ask(file(place("archive", "a"), "other", "b"), deadline=0.2)
    await rig.store.pause(waiting)
    await rig.engine(lease=3.0)
    running = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"), deadline=1.5)

    for job in (running, waiting):
        ended = await rig.ended(job)
        assert ended.state is State.FAILED
        assert ended.error is not None
        assert ended.error["code"] == "DEADLINE_EXCEEDED"
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_stop_on_failure(rig: Rig) -> None:
    """A job that is to stop at the first failure leaves its other files alone; any other goes on."""
    missing, there = place("archive", "missing"), place("archive", "a")
    wanted = [file(missing, "archive", "x"), *(file(there, "archive", f"y{number}") for number in range(5))]
    await rig.engine()
    stopped, _ = await rig.moved(*wanted, stop_on_failure=True)
    gone_on, _ = await rig.moved(*(file(one.source, "archive", f"z/{one.path}") for one in wanted))

    assert stopped.state is State.FAILED
    assert (stopped.files_completed, stopped.files_failed) == (0, 1)
    assert gone_on.state is State.PARTIAL
    assert (gone_on.files_completed, gone_on.files_failed) == (5, 1)


@pytest_twisted.ensureDeferred
async def test_hold_and_release(rig: Rig) -> None:
    """Nothing goes to a held destination, and what waits says why; released, it moves."""
    await rig.store.hold("other", "its disk is being exchanged")
    await rig.engine()
    job = await rig.ask(file(place("archive", "a"), "other", "b"))
    free = await rig.ask(file(place("archive", "a"), "archive", "b"))
    await rig.ended(free)
    held = await rig.store.job(job)
    await rig.store.release("other")

    assert held.state is State.PENDING
    assert held.waiting_for == "destination other: held: its disk is being exchanged"
    assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_breaker(rig: Rig) -> None:
    """A destination that fails for everyone is left alone but for a probe, and the waiting say so."""
    broken = True
    tried: list[str] = []

    async def fail(operation: str, path: str) -> None:
        if operation == "write" and broken:
            tried.append(path)
            raise ConnectFailed("nobody answers", scope=Scope.DESTINATION)

    rig.faulty.before = fail
    (rig.directory / "other").mkdir()
    (rig.directory / "other/a").write_bytes(b"a")
    await rig.engine()
    jobs = [await rig.ask(file(place("other", "a"), "archive", str(number)), max_attempts=50) for number in range(30)]
    record = await became(rig, jobs[-1], lambda job: job.waiting_for and "nobody answers" in job.waiting_for)
    many = len(tried)
    sides = await rig.store.endpoints()
    broken = False
    await rig.store.release("archive")
    ended = [await rig.ended(job) for job in jobs]

    assert record.waiting_for is not None
    assert record.waiting_for.startswith("destination archive: nobody answers; next probe in ")
    assert many <= 8
    assert sides[0]["name"] == "place archive"
    assert {one.state for one in ended} == {State.COMPLETED}


@pytest_twisted.ensureDeferred
async def test_same_target_in_turn(rig: Rig, tmp_path: Path) -> None:
    """Two jobs for one path are moved in the order in which they were asked for, never at once."""
    for name in "bc":
        (tmp_path / "archive" / name).write_text(name)
    first = await rig.ask(file(place("archive", "b"), "other", "same"), overwrite=Overwrite.ALWAYS)
    second = await rig.ask(file(place("archive", "c"), "other", "same"), overwrite=Overwrite.ALWAYS, priority=5)
    waiting = (await rig.store.job(second)).waiting_for
    await rig.engine()
    await rig.ended(first)
    await rig.ended(second)

    assert waiting is not None
    assert (tmp_path / "other/same").read_text() == "c"


@pytest_twisted.ensureDeferred
async def test_queue_full(rig: Rig) -> None:
    """More than may wait is refused, and nothing of it is stored."""
    here = place("archive", "a")
    await rig.ask(*(file(here, "other", str(number)) for number in range(45)))
    with pytest.raises(QueueFull):
        await rig.ask(*(file(here, "other", f"more/{number}") for number in range(6)))
    assert len(await rig.store.jobs()) == 1


@pytest_twisted.ensureDeferred
async def test_expiry(rig: Rig) -> None:
    """After the retention a job is gone; its owner is told that it was there, nobody else is."""
    await rig.engine()
    job, _ = await rig.moved(file(place("archive", "a"), "other", "b"))
    await rig.database.execute("UPDATE jobs SET finished_at = now() - interval '2 days'")
    upkeep = Upkeep(rig.database, retention=lambda: 86_400.0)

    assert await upkeep.retire() == 1
    assert await upkeep.retire() == 0
    with pytest.raises(ExpiredJob):
        await rig.store.job(job.id, "tester")
    with pytest.raises(UnknownJob):
        await rig.store.job(job.id, "somebody")
    assert await rig.database.fetch("SELECT * FROM transfers") == []


@pytest_twisted.ensureDeferred
async def test_files_of_a_client_that_may_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More are refused, by the quota's name, while others ask as ever; what ends makes room."""
    monkeypatch.setattr(submission, "STALEST", submission.RECOUNT)  # Who is slow to count would count more seldom.
    rig.limits = replace(rig.limits, owners={"portal": Quota(queued=3)})
    source = place("archive", "a")
    job = await rig.ask(*(file(source, "other", f"{n}") for n in range(3)), owner="portal")
    with pytest.raises(QueueFull) as refused:
        await rig.ask(file(source, "other", "4"), owner="portal")
    assert refused.value.message == "3 files wait already, and [clients.portal] queued allows 3: ask again later"
    await rig.ask(file(source, "other", "of another"), owner="another")
    await rig.store.cancel(job)
    await deferLater(reactor, 1.1 * submission.RECOUNT)
    await rig.ask(*(file(source, "other", f"{n}") for n in range(3)), owner="portal")


@pytest_twisted.ensureDeferred
async def test_transfers_of_a_client_at_once(rig: Rig, tmp_path: Path) -> None:
    """No more than the quota, over several engines, and below what holds for every owner; the others wait, truly."""
    rig.limits = replace(
        rig.limits, per_source_host=32, owners={"portal": Quota(max_active=2), "vast": Quota(max_active=1000)}
    )
    assert rig.limits.active_of("vast") == rig.limits.per_owner
    (tmp_path / "other").mkdir()
    (tmp_path / "other/big").write_bytes(bytes(4 * MIB))
    job = await rig.ask(*(file(place("other", "big"), "slow", f"{n}") for n in range(5)), owner="portal")
    late = await rig.ask(file(place("other", "big"), "slow", "late"), owner="portal")
    for _ in range(2):
        await rig.engine()
    most, told = 0, set[str | None]()
    while not (record := await rig.store.job(job)).state.terminal:
        most = max(most, len(await rig.store.active()))
        told.add((await rig.store.job(late)).waiting_for)
        await deferLater(reactor, 0.02)
    assert record.state is State.COMPLETED
    assert most == 2
    assert any(why and why.startswith("owner portal: 2 of 2 transfers active") for why in told), told
    await rig.ended(late)


@pytest_twisted.ensureDeferred
async def test_bytes_of_a_client_a_day(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once they are over, its files wait and say why; others' do not; with a larger bound they go on."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/some").write_bytes(bytes(1000))
    (tmp_path / "other/big").write_bytes(bytes(60 * MIB))
    engine = await rig.engine()
    begun = await rig.ask(file(place("other", "big"), "slow", "begun"), owner="portal")
    await became(rig, begun, lambda record: record.bytes_done > 0)
    await rig.store.pause(begun)
    await became(rig, begun, lambda record: record.stage is None)
    rig.limits = replace(rig.limits, owners={"portal": Quota(bytes_per_day=1500)})
    for n in range(2):
        record, _ = await rig.moved(file(place("other", "some"), "slow", f"{n}"), owner="portal")
        assert record.state is State.COMPLETED
    known = Deferred[None]()
    count = engine.queue.over_daily_quota

    async def counted(limits: QueueLimits) -> list[str]:
        owners = await count(limits)
        if owners and not known.called:
            known.callback(None)
        return owners

    monkeypatch.setattr(engine.queue, "over_daily_quota", counted)
    await known
    job = await rig.ask(file(place("other", "some"), "slow", "late"), owner="portal")
    record, _ = await rig.moved(file(place("other", "some"), "slow", "another"), owner="another")
    assert record.state is State.COMPLETED
    waiting = await rig.store.job(job)
    assert (waiting.state, waiting.waiting_for) == (
        State.PENDING,
        "client portal: 2000 bytes moved in the last 24 hours, and bytes_per_day allows 1500",
    )
    await rig.store.cancel(begun)
    assert (await rig.ended(begun)).state is State.CANCELLED
    assert not parts(tmp_path / "slow")
    rig.limits = replace(rig.limits, owners={})
    assert (await rig.ended(job)).state is State.COMPLETED
