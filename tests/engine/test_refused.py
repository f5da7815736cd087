"""What the database refuses: that one transfer, event or job ends or is set aside, and everything else goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from datamover.engine import outcomes, recorder
from datamover.jobs.upkeep import quarantine
from datamover.jobs.upkeep.upkeep import DAY, Upkeep
from datamover.jobs.values import JobRecord, NewJob, State
from datamover.postgres import database
from datamover.postgres.database import Database
from tests.engine.rig import Rig, file, place
from tests.servers import postgres
from tests.servers.refusing import LASTING, PASSING, Refusal
from tests.waiting import until

FILES = 12
POISON = 5
"""The file, of those, that is refused."""


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Places whose files move when the gate opens; what is refused is tried again soon."""
    monkeypatch.setattr(outcomes, "DOUBT", 0.05)
    monkeypatch.setattr(recorder, "DOUBT", 0.1)
    monkeypatch.setattr(recorder, "INTERVAL", 0.05)
    monkeypatch.setattr(quarantine, "FIRST", 0.1)
    (tmp_path / "store").mkdir()
    for number in range(FILES):
        (tmp_path / f"store/{number}").write_bytes(b"x" * (number + 1))
    rig = await Rig(reactor, tmp_path).open(
        {
            "store": {"url": (tmp_path / "store").as_uri(), "max_active": FILES},
            "archive": {"url": f"faulty://{tmp_path}/archive", "max_active": FILES},
        },
        transfers={"max_attempts": 2},
    )
    yield rig
    await rig.close()


async def ask(rig: Rig) -> list[int]:
    """Ask for one job for each file; return the jobs, whose ids are those of their transfers."""
    jobs = [await rig.ask(file(place("store", str(number)), "archive", str(number))) for number in range(FILES)]
    rows = await rig.database.fetch("SELECT id, job FROM transfers")
    assert all(row["id"] == row["job"] for row in rows)
    return jobs


async def refuse(rig: Rig, table: str, operation: str, when: str, sqlstate: str, times: int | None = None) -> Refusal:
    """Have the database refuse from now on."""
    refusal = Refusal(table, operation, when, sqlstate, times)
    await rig.database.execute(refusal.begin)
    return refusal


async def ends(rig: Rig, jobs: Sequence[int]) -> list[JobRecord]:
    return [await rig.ended(job) for job in jobs]


async def others_end(rig: Rig, jobs: Sequence[int]) -> None:
    """See every job but the poisoned one completed."""
    others = [job for number, job in enumerate(jobs) if number != POISON]
    assert {record.state for record in await ends(rig, others)} == {State.COMPLETED}


def internal(record: JobRecord) -> bool:
    """Tell whether a job ended by an error of the service's own, which says where to look."""
    assert record.error is not None, record
    error = record.error
    return record.state is State.FAILED and error["code"] == "INTERNAL" and "its log has more" in error["message"]


class Gate:
    """Holds up every file at its destination until it opens."""

    def __init__(self, rig: Rig) -> None:
        self.waiting = 0
        self._opened: Deferred[None] = Deferred()
        rig.faulty.before = self._before

    async def _before(self, operation: str, path: str) -> None:
        if operation == "write" and not self._opened.called:
            passing: Deferred[None] = Deferred()
            self._opened.addCallback(lambda _: None if passing.called else passing.callback(None))
            self.waiting += 1
            await passing

    def open(self) -> None:
        self._opened.callback(None)


# Of a lasting kind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sqlstate", LASTING)
@pytest_twisted.ensureDeferred
async def test_an_outcome(rig: Rig, sqlstate: str) -> None:
    """A transfer whose end is refused ends as INTERNAL, and its history says so; the others of the batch complete."""
    jobs = await ask(rig)
    await refuse(rig, "transfers", "UPDATE", f"NEW.id = {jobs[POISON]} AND NEW.state = 'COMPLETED'", sqlstate)
    await rig.engine(max_active=FILES)

    await others_end(rig, jobs)
    record = await rig.ended(jobs[POISON])

    assert internal(record)
    assert (await rig.kinds(record.id))[-2:] == ["failed", "failed"]
    assert set(rig.failures) == {"progress"}
    assert not rig.loops.troubles


@pytest_twisted.ensureDeferred
async def test_an_outcome_once(rig: Rig) -> None:
    """What is refused by itself once, and taken the next time, is no poison: it is written as it is."""
    jobs = await ask(rig)
    when = f"NEW.id = {jobs[POISON]} AND NEW.state = 'COMPLETED'"
    refusal = await refuse(rig, "transfers", "UPDATE", when, "22003", times=1)
    await rig.engine(max_active=1)
    assert {record.state for record in await ends(rig, jobs)} == {State.COMPLETED}
    assert await refusal.count(rig.database) == 2
    assert (await rig.store.files(jobs[POISON]))[0].attempt == 1


@pytest_twisted.ensureDeferred
async def test_an_end_that_cannot_be_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes no end at all is given up after a while: nobody waits for it when the engine stops."""
    monkeypatch.setattr(outcomes, "GIVEN_UP", 0.3)
    jobs = await ask(rig)
    gate = Gate(rig)
    engine = await rig.engine(max_active=FILES)
    await until(lambda: gate.waiting == FILES)
    refusal = await refuse(rig, "transfers", "UPDATE", f"NEW.id = {jobs[POISON]}", "XX001")
    gate.open()
    await others_end(rig, jobs)
    await engine.stop()
    rig.engines.remove(engine)
    await rig.database.execute(refusal.end)
    await rig.engine(max_active=FILES)
    await rig.database.execute("UPDATE transfers SET lease_until = now() WHERE node IS NOT NULL")
    assert (await rig.ended(jobs[POISON])).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_progress(rig: Rig, tmp_path: Path) -> None:
    """A transfer whose progress is refused ends as INTERNAL while it runs, and leaves nothing; the others go on."""
    jobs = await ask(rig)
    gate = Gate(rig)
    when = f"NEW.id = {jobs[POISON]} AND NEW.size IS NOT NULL AND NEW.state = 'IN_PROGRESS'"
    await refuse(rig, "transfers", "UPDATE", when, "22003")
    engine = await rig.engine(max_active=FILES)
    await until(lambda: gate.waiting == FILES)

    assert internal(await rig.ended(jobs[POISON]))
    others = [await rig.store.job(job) for job in jobs if job != jobs[POISON]]
    assert {other.state for other in others} == {State.IN_PROGRESS}
    assert all(other.bytes_total for other in others)
    gate.open()
    await others_end(rig, jobs)
    assert not list((tmp_path / "archive").glob(f"*{POISON}*"))
    assert not engine.recorder.meters


@pytest_twisted.ensureDeferred
async def test_a_size_that_no_column_holds(rig: Rig) -> None:
    """A file that is said to have 2^63 bytes is no other's trouble."""
    jobs = await ask(rig)
    gate = Gate(rig)
    engine = await rig.engine(max_active=FILES)
    await until(lambda: gate.waiting == FILES)
    [meter] = [meter for meter in engine.recorder.meters if meter.transfer == jobs[POISON]]
    meter.size = 2**63
    assert internal(await rig.ended(jobs[POISON]))
    gate.open()
    await others_end(rig, jobs)


@pytest_twisted.ensureDeferred
async def test_a_row_that_takes_no_progress(rig: Rig) -> None:
    """Where whatever is told of a transfer's progress is refused, it moves on, and its end is written."""
    jobs = await ask(rig)
    gate = Gate(rig)
    when = (
        f"NEW.id = {jobs[POISON]} AND NEW.state = 'IN_PROGRESS' AND OLD.state = 'IN_PROGRESS' AND NEW.lease = OLD.lease"
    )
    refusal = await refuse(rig, "transfers", "UPDATE", f"{when} AND NEW.lease_until = OLD.lease_until", "22003")
    await rig.engine(max_active=FILES)
    while await refusal.count(rig.database) < 8:
        await deferLater(reactor, 0.05)
    gate.open()
    assert {record.state for record in await ends(rig, jobs)} == {State.COMPLETED}


@pytest.mark.parametrize("sqlstate", LASTING[:2])
@pytest_twisted.ensureDeferred
async def test_a_claim(rig: Rig, sqlstate: str) -> None:
    """A transfer that the database does not let anybody claim ends as INTERNAL; the others are claimed."""
    jobs = await ask(rig)
    await refuse(rig, "transfers", "UPDATE", f"NEW.id = {jobs[POISON]} AND NEW.node IS NOT NULL", sqlstate)
    await rig.engine(max_active=2)

    await others_end(rig, jobs)
    assert internal(await rig.ended(jobs[POISON]))
    assert (await rig.kinds(jobs[POISON]))[-2:] == ["failed", "failed"]
    assert set(rig.failures) == {"claims"}


@pytest_twisted.ensureDeferred
async def test_a_member_of_a_group(rig: Rig) -> None:
    """A group of which a member cannot be started ends as INTERNAL; groups that are claimed with it are moved."""
    archives = [
        await rig.ask(*(file(place("store", str(n)), "archive", f"{job}.zip") for n in range(2)), archive="zip")
        for job in range(3)
    ]
    poison = archives.pop()
    await refuse(
        rig, "transfers", "UPDATE", f"NEW.job = {poison} AND NEW.index = 1 AND NEW.state = 'PREPARING'", "22003"
    )
    await rig.engine(max_active=FILES)
    assert {record.state for record in await ends(rig, archives)} == {State.COMPLETED}
    record = await rig.ended(poison)
    assert internal(record)
    assert record.files_failed == 2
    assert set(rig.failures) == {"claims"}


@pytest_twisted.ensureDeferred
async def test_a_row_that_cannot_be_changed(rig: Rig) -> None:
    """A transfer of which the database takes nothing at all is passed over, however small the room, and told of."""
    jobs = await ask(rig)
    refusal = await refuse(rig, "transfers", "UPDATE", f"NEW.id = {jobs[POISON]}", "XX001")
    await rig.engine(max_active=1)
    await others_end(rig, jobs)
    assert (await rig.store.job(jobs[POISON])).state is State.PENDING

    await rig.database.execute(refusal.end)
    assert (await rig.ended(jobs[POISON])).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_a_renewal(rig: Rig) -> None:
    """A lease that cannot be renewed is lost; the others', renewed by the same statement, are not."""
    jobs = await ask(rig)
    gate = Gate(rig)
    renewed = f"NEW.id = {jobs[POISON]} AND NEW.lease = OLD.lease AND NEW.lease_until > OLD.lease_until"
    await refuse(rig, "transfers", "UPDATE", renewed, "22003")
    engine = await rig.engine(max_active=FILES, lease=1.5)
    await until(lambda: gate.waiting == FILES)
    await until(lambda: engine.dispatcher.active == FILES - 1)
    await deferLater(reactor, 1.0)
    gate.open()
    assert {record.state for record in await ends(rig, jobs)} == {State.COMPLETED}
    starts = [(await rig.kinds(job)).count("started") for job in jobs]
    assert [number for number, count in enumerate(starts) if count > 1] == [POISON]


@pytest_twisted.ensureDeferred
async def test_a_takeover(rig: Rig) -> None:
    """What cannot be put back in the queue of what a dead node held ends as INTERNAL; the rest goes on."""
    jobs = await ask(rig)
    gate = Gate(rig)
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    dead = await rig.engine(max_active=FILES, lease=1.0, database=own)
    await until(lambda: gate.waiting == FILES)
    await own.close()
    await until(lambda: not dead.dispatcher.active)
    await refuse(rig, "transfers", "UPDATE", f"NEW.id = {jobs[POISON]} AND NEW.state = 'PENDING'", "22003")
    gate.open()
    await rig.engine(max_active=FILES)

    await others_end(rig, jobs)
    assert internal(await rig.ended(jobs[POISON]))


@pytest.mark.parametrize("kind", ["started", "completed"])
@pytest_twisted.ensureDeferred
async def test_an_event(rig: Rig, kind: str) -> None:
    """An event that is refused is set aside, in words that say whose it was; all others are told."""
    jobs = await ask(rig)
    await refuse(rig, "events", "INSERT", f"NEW.job = {jobs[POISON]} AND NEW.kind = '{kind}'", "22P05")
    with capturedLogs() as told:
        await rig.engine(max_active=FILES)
        await others_end(rig, jobs)
        record = await rig.ended(jobs[POISON])
    assert kind not in await rig.kinds(jobs[POISON])
    assert record.state is State.COMPLETED
    assert any(f"transfer {jobs[POISON]}" in formatEvent(event) for event in told if "log_failure" in event)
    assert [await rig.kinds(job) for job in jobs if job != jobs[POISON]] == [
        ["submitted", "started", "completed", "completed"]
    ] * (FILES - 1)


@pytest_twisted.ensureDeferred
async def test_what_an_event_tells(rig: Rig) -> None:
    """Where only what an event tells of is refused, it is told without."""
    jobs = await ask(rig)
    await refuse(rig, "events", "INSERT", f"NEW.job = {jobs[POISON]} AND NEW.details ? 'digest'", "22P05")
    await rig.engine(max_active=FILES)
    assert {record.state for record in await ends(rig, jobs)} == {State.COMPLETED}
    events = await rig.store.events(job=jobs[POISON])
    assert [(event.kind, dict(event.details)) for event in events[2:3]] == [("completed", {})]


@pytest_twisted.ensureDeferred
async def test_deadlines(rig: Rig) -> None:
    """Jobs that are overdue fail, all but the one of which the database refuses it; that one when it no longer does."""
    jobs = [await rig.ask(file(place("store", "0"), "archive", str(number)), deadline=0.01) for number in range(FILES)]
    await deferLater(reactor, 0.05)
    refusal = await refuse(rig, "transfers", "UPDATE", f"NEW.job = {jobs[POISON]} AND NEW.state = 'FAILED'", "22003")
    await rig.engine(max_active=0)
    codes = {(await rig.ended(job)).error["code"] for job in jobs if job != jobs[POISON]}  # type: ignore[index]
    assert codes == {"DEADLINE_EXCEEDED"}
    assert set(rig.failures) == {"changes"}
    await rig.database.execute(refusal.end)
    assert (await rig.ended(jobs[POISON])).state is State.FAILED


@pytest_twisted.ensureDeferred
async def test_a_deadline_that_cannot_be_told(rig: Rig) -> None:
    """An overdue job whose events are refused ends without them."""
    job = await rig.ask(file(place("store", "0"), "archive", "0"), deadline=0.01)
    await deferLater(reactor, 0.05)
    await refuse(rig, "events", "INSERT", f"NEW.job = {job}", "22P05")
    await rig.engine(max_active=0)
    assert (await rig.ended(job)).state is State.FAILED
    assert await rig.kinds(job) == ["submitted"]


@pytest_twisted.ensureDeferred
async def test_retirement(rig: Rig) -> None:
    """Old jobs are forgotten, all but the one of which the database refuses it."""
    jobs = await ask(rig)
    await rig.engine(max_active=FILES)
    await ends(rig, jobs)
    await refuse(rig, "jobs", "DELETE", f"OLD.id = {jobs[POISON]}", "23503")
    told: list[str] = []
    upkeep = Upkeep(rig.database, lambda: 0.0, refused=lambda loop, what, failure: told.append(f"{loop}: {what}"))
    assert await upkeep.retire() == FILES - 1
    assert [row["id"] for row in await rig.database.fetch("SELECT id FROM jobs")] == [jobs[POISON]]
    assert told == [f"retirement: job {jobs[POISON]}"]


@pytest_twisted.ensureDeferred
async def test_a_retirement_that_cannot_be_told(rig: Rig) -> None:
    """An old job whose events are refused is forgotten without them."""
    jobs = await ask(rig)
    await rig.engine(max_active=FILES)
    await ends(rig, jobs)
    await refuse(rig, "events", "INSERT", f"NEW.job = {jobs[POISON]} AND NEW.kind = 'expired'", "22P05")
    await rig.database.execute("UPDATE jobs SET finished_at = now() - interval '2 days'")
    now = [0.0]
    upkeep = Upkeep(rig.database, lambda: DAY, refused=rig.loops.refused, monotonic=lambda: now[0])
    assert await upkeep.retire() == FILES - 1
    now[0] += quarantine.LONGEST
    assert await upkeep.retire() == 1
    told = [row["job"] for row in await rig.database.fetch("SELECT job FROM events WHERE kind = 'expired'")]
    assert sorted(told) == [job for job in jobs if job != jobs[POISON]]


@pytest_twisted.ensureDeferred
async def test_what_a_history_is_not_told(rig: Rig, tmp_path: Path) -> None:
    """A transfer that goes on from a part file, where the history does not take that, moves on and completes."""
    jobs = await ask(rig)
    gate = Gate(rig)
    await refuse(rig, "events", "INSERT", f"NEW.job = {jobs[POISON]} AND NEW.kind = 'resumed'", "22P05")
    engine = await rig.engine(max_active=FILES)
    await until(lambda: gate.waiting == FILES)
    for meter in engine.recorder.meters:
        meter.resume(1, resent=0)
    while sum([(await rig.kinds(job)).count("resumed") for job in jobs]) < FILES - 1:
        await deferLater(reactor, 0.05)
    await until(lambda: not [meter for meter in engine.recorder.meters if meter.resumed])
    gate.open()
    assert {record.state for record in await ends(rig, jobs)} == {State.COMPLETED}
    assert [(await rig.kinds(job)).count("resumed") for job in jobs] == [job != jobs[POISON] for job in jobs]


@pytest_twisted.ensureDeferred
async def test_submissions(rig: Rig) -> None:
    """Of calls that are stored together, the one that is refused is told so; the others are stored, once each."""
    await refuse(rig, "jobs", "INSERT", "NEW.label = 'poison'", "22021")

    def submit(label: str) -> Deferred[Any]:
        job = NewJob(files=(file(place("store", "0"), "archive", label),), owner="tester", label=label)
        return Deferred.fromCoroutine(rig.store.submit([job]))

    labels = ["first", *(str(number) for number in range(20)), "poison", "last"]
    answers = await DeferredList([submit(label) for label in labels], consumeErrors=True)
    assert [label for label, (stored, _) in zip(labels, answers, strict=True) if not stored] == ["poison"]
    stored = await rig.database.fetch("SELECT label FROM jobs ORDER BY id")
    assert sorted(row["label"] for row in stored) == sorted(set(labels) - {"poison"})
    assert rig.failures == ["submissions"]


# That pass ------------------------------------------------------------------------------------------------------


CHANGES = {
    "claim": "NEW.node IS NOT NULL AND OLD.node IS NULL",
    "progress": "NEW.size IS NOT NULL AND OLD.size IS NULL AND NEW.state = 'IN_PROGRESS'",
    "settle": "NEW.state = 'COMPLETED'",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sqlstate", PASSING)
@pytest_twisted.ensureDeferred
async def test_passes(rig: Rig, monkeypatch: pytest.MonkeyPatch, sqlstate: str, change: str) -> None:
    """What may be done later is done later, and never is anybody's error; meanwhile the others go on."""
    monkeypatch.setattr(database, "ROUNDS", 1)
    jobs = await ask(rig)
    when = f"NEW.id = {jobs[POISON]} AND {CHANGES[change]}"
    refusal = await refuse(rig, "transfers", "UPDATE", when, sqlstate)
    await rig.engine(max_active=FILES)
    await others_end(rig, jobs)
    if change != "progress":
        while await refusal.count(rig.database) < 3:
            await deferLater(reactor, 0.02)
        assert not (await rig.store.job(jobs[POISON])).state.terminal
    await rig.database.execute(refusal.end)
    record = await rig.ended(jobs[POISON])
    assert (record.state, record.first_error) == (State.COMPLETED, None)
    assert rig.failures == []


@pytest.mark.parametrize("sqlstate", ["25006", "42501"])
@pytest_twisted.ensureDeferred
async def test_a_database_that_refuses_everything(rig: Rig, sqlstate: str) -> None:
    """While nothing at all can be written nobody is blamed for it; afterwards everything goes on."""
    jobs = await ask(rig)
    gate = Gate(rig)
    await rig.engine(max_active=FILES)
    await until(lambda: gate.waiting == FILES)
    refusals = [
        await refuse(rig, table, operation, "true", sqlstate)
        for table, operation in (("transfers", "UPDATE"), ("jobs", "UPDATE"), ("events", "INSERT"))
    ]
    gate.open()
    await deferLater(reactor, 1.0)
    for refusal in refusals:
        await rig.database.execute(refusal.end)
    assert {record.state for record in await ends(rig, jobs)} == {State.COMPLETED}
    assert not rig.loops.troubles
