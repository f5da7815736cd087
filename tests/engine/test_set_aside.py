"""What is set aside, in words, of what the database refuses or nobody can read: notices, audit lines, sealed rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from datamover.audit.trail import AuditEvent, AuditStore, AuditTrail
from datamover.engine import maintenance
from datamover.errors import ConnectFailed, Scope, StartError
from datamover.jobs import work
from datamover.jobs.store import JobStore
from datamover.jobs.upkeep import quarantine
from datamover.jobs.values import Checksum, NewJob, State
from datamover.sealing.keyring import Cipher, KeyFile, KeyRing
from datamover.sealing.rotation import ResealReport, settle
from tests.engine.post import Post, opened, read
from tests.engine.rig import file, parts, place, url
from tests.servers.refusing import LASTING, Refusal
from tests.servers.web import File, status
from tests.waiting import until

NOTICES = 6
POISON = 3


@pytest_twisted.async_yield_fixture
async def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(quarantine, "FIRST", 0.1)
    post = await opened(tmp_path, f"faulty://{tmp_path}/archive")
    post.web.route("/moved", status(200))
    yield post
    await post.close()


async def refuse(post: Post, table: str, operation: str, when: str, sqlstate: str) -> Refusal:
    refusal = Refusal(table, operation, when, sqlstate)
    await post.rig.database.execute(refusal.begin)
    return refusal


async def told(post: Post, jobs: Sequence[int]) -> None:
    """See the notice of every job acknowledged, and sent once."""
    for job in jobs:
        await post.told(job, "notified")
    sent = [read(request)["job"] for request in post.web.asked("/moved")]
    assert sorted(job for job in sent if job in jobs) == sorted(jobs)


# Notices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sqlstate", LASTING[:2])
@pytest_twisted.ensureDeferred
async def test_a_notice_that_cannot_be_claimed(post: Post, sqlstate: str) -> None:
    """It is set aside, its history says so, and it can be asked for again; the others are sent."""
    jobs = [await post.ended() for _ in range(NOTICES)]
    poison = jobs.pop(POISON)
    refusal = await refuse(post, "notices", "UPDATE", f"NEW.job = {poison} AND NEW.lease > OLD.lease", sqlstate)
    await post.notifier()
    await told(post, jobs)
    [failed] = await post.told(poison, "notify_failed")
    assert failed.details["error"]["code"] == "INTERNAL"
    assert set(post.rig.failures) == {"notices"}
    assert not post.rig.loops.troubles

    await post.rig.database.execute(refusal.end)
    await post.rig.store.renotify(poison)
    await told(post, [poison])


@pytest_twisted.ensureDeferred
async def test_an_answer_that_cannot_be_written(post: Post) -> None:
    """A notice of which nothing more can be written is not sent for ever."""
    jobs = [await post.ended() for _ in range(NOTICES)]
    poison = jobs.pop(POISON)
    await refuse(post, "notices", "UPDATE", f"NEW.job = {poison} AND NEW.state = 'DELIVERED'", "22003")
    await post.notifier(lease=0.5)
    await told(post, jobs)
    await post.told(poison, "notify_failed")
    [row] = await post.rig.database.fetch("SELECT state, error FROM notices WHERE job = %(job)s", {"job": poison})
    assert (row["state"], row["error"]["code"]) == ("WAITING", "INTERNAL")
    assert [read(request)["job"] for request in post.web.asked("/moved")].count(poison) == 1


@pytest_twisted.ensureDeferred
async def test_a_notice_whose_event_is_refused(post: Post) -> None:
    """It is acknowledged all the same, and that is not told."""
    job = await post.ended()
    await refuse(post, "events", "INSERT", "NEW.kind = 'notified'", "22P05")
    await post.notifier()
    await until(lambda: post.rig.failures)
    await post.rig.database.execute("SELECT 1")
    state: list[str] = []
    while state != ["DELIVERED"]:
        state = [row["state"] for row in await post.rig.database.fetch("SELECT state FROM notices")]
    assert await post.kinds(job) == []


@pytest_twisted.ensureDeferred
async def test_what_a_receiver_says(post: Post) -> None:
    """What a receiver answers and the database does not take is told without; the notice is sent again."""
    post.web.route("/moved", status(500))
    job = await post.ended()
    await refuse(post, "notices", "UPDATE", "NEW.error::text LIKE '%answered 500%'", "22P05")
    await post.notifier()
    [failed, *_] = await post.told(job, "notify_failed")
    assert failed.details["error"]["code"] == "INTERNAL"
    assert "next_retry_at" in failed.details
    post.web.route("/moved", status(200))
    await post.told(job, "notified")


@pytest_twisted.ensureDeferred
async def test_a_notice_that_keeps_a_job_from_ending(post: Post, tmp_path: Path) -> None:
    """A job whose notice cannot fall due ends all the same."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/a.csv").write_bytes(b"a")
    await refuse(post, "notices", "UPDATE", "NEW.state = 'DUE'", "22003")
    await post.rig.engine()
    wanted = file(place("store", "a.csv"), "archive", "a.csv")
    job = await post.rig.ask(wanted, notify=url(f"{post.web.url}/moved"))
    assert (await post.rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_a_notice_whose_key_is_gone(post: Post) -> None:
    """It is set aside with a sentence that says so; the others are sent."""
    lost = await post.ended("/moved?key=secret")
    post.rig.seal.lose()
    jobs = [await post.ended("/moved?key=secret") for _ in range(2)]
    await post.notifier()
    for job in jobs:
        await post.told(job, "notified")
    [failed] = await post.told(lost, "notify_failed")
    assert failed.details["error"]["code"] == "INTERNAL"
    assert "the key that the notice's URL was sealed with is missing" in failed.details["error"]["message"]
    assert not post.rig.loops.troubles


# The audit trail ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_line_of_the_audit_trail(post: Post) -> None:
    """A line that is refused twice is in the log, in words; every other is written, once."""
    database = post.rig.database
    await refuse(post, "audit", "INSERT", "NEW.subject = 'poison'", "22021")
    audit = AuditTrail(AuditStore(database), reactor, post.rig.loops.refused)
    subjects = [*map(str, range(9)), "poison", *map(str, range(9, 20))]
    with capturedLogs() as log:
        await DeferredList(
            [Deferred.fromCoroutine(audit.record(AuditEvent("boss", "here", "service.drain", one))) for one in subjects]
        )
        await audit.record(AuditEvent("boss", "here", "service.drain", "20"))
    written = [entry.event.subject for entry in await audit.store.read()]
    assert sorted(written) == sorted(map(str, range(21)))
    [said] = [
        line
        for event in log
        if (line := formatEvent(event) or "").startswith("the database refuses this audit event again")
    ]
    assert "poison" in said
    assert post.rig.failures == ["audit"]


# Keys -----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_gone(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose URL was sealed with a key that is gone fails, by its cause; nobody else's claim is undone for it."""
    monkeypatch.setattr(maintenance, "LOOKING", 0.1)
    rig, signed = post.rig, url(f"{post.web.url}/f?signature=secret")
    post.web.route("/f", File(b"f", etag='"1"'))
    before = await rig.ask(file(url(f"{post.web.url}/f"), "archive", "before"))
    lost = await rig.ask(*(file(signed, "archive", f"lost/{number}") for number in range(2)))
    archive = await rig.ask(*(file(signed, "archive", f"{number}") for number in range(2)), archive="zip")
    rig.seal.lose()
    kept = await rig.ask(file(signed, "archive", "kept"))
    await rig.engine()

    assert {(await rig.ended(job)).state for job in (before, kept)} == {State.COMPLETED}
    for job in (lost, archive):
        record = await rig.ended(job)
        assert (record.state, record.files_failed) == (State.FAILED, 2)
        assert record.error is not None
        assert record.error["code"] == "INTERNAL"
        assert "the key that this file's URL was sealed with is missing" in record.error["message"]
        assert "secret" not in str(record)
    # What they may have left is swept, members that never began included.
    while await rig.database.fetch("SELECT FROM transfers WHERE traces"):
        await deferLater(reactor, 0.02)
    assert set(rig.failures) == {"claims"}
    assert not rig.loops.troubles


async def leaving_parts(post: Post, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Serve /f and start an engine that sweeps often; no part file can be removed until the returned list is empty."""
    monkeypatch.setattr(maintenance, "LOOKING", 0.1)
    monkeypatch.setattr(work, "SWEEPING", 0.5)
    away = [True]

    async def before(operation: str, path: str) -> None:
        if operation == "remove" and away:
            raise ConnectFailed("nobody answers", scope=Scope.DESTINATION)

    post.rig.faulty.before = before
    post.web.route("/f", File(b"f" * 2**20, etag='"1"'))
    await post.rig.engine()
    return away


WRONG = Checksum("sha256", "0" * 64)


@pytest_twisted.ensureDeferred
async def test_what_is_left_when_the_key_is_gone(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part files of a transfer whose source cannot be opened any more are swept all the same."""
    rig, away = post.rig, await leaving_parts(post, monkeypatch)
    wanted = file(url(f"{post.web.url}/f?signature=secret"), "archive", "f", checksum=WRONG)
    assert (await rig.ended(await rig.ask(wanted, max_attempts=1))).state is State.FAILED
    assert parts(tmp_path)
    rig.seal.lose()
    away.clear()
    await until(lambda: not parts(tmp_path))


@pytest_twisted.ensureDeferred
async def test_what_is_left_and_cannot_be_taken(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database refuses to have one group swept, the others are."""
    rig, away = post.rig, await leaving_parts(post, monkeypatch)
    jobs = [
        await rig.ask(file(url(f"{post.web.url}/f"), "archive", f"{number}", checksum=WRONG), max_attempts=1)
        for number in range(4)
    ]
    for job in jobs:
        await rig.ended(job)
    refusal = await refuse(post, "transfers", "UPDATE", f"NEW.job = {jobs[0]} AND NEW.lease > OLD.lease", "XX001")
    away.clear()
    await until(lambda: len(parts(tmp_path)) == 1)
    await rig.database.execute(refusal.end)
    await until(lambda: not parts(tmp_path))
    assert set(rig.failures) == {"sweeping"}


@pytest_twisted.ensureDeferred
async def test_what_is_left_where_another_goes(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left waits as long as another job's file goes to that target: it may have an upload there, too."""
    rig, away = post.rig, await leaving_parts(post, monkeypatch)
    jobs = [
        await rig.ask(file(url(f"{post.web.url}/f"), "archive", name, checksum=WRONG), max_attempts=1)
        for name in ("f", "g")
    ]
    for job in jobs:
        await rig.ended(job)
    assert len(parts(tmp_path)) == 2
    await rig.store.hold("archive", "nothing begins yet")
    other = await rig.ask(file(url(f"{post.web.url}/f"), "archive", "f"))
    await rig.store.pause(other)
    await rig.store.release("archive")

    away.clear()
    while len(left := await rig.database.fetch("SELECT job FROM transfers WHERE traces")) > 1:
        await deferLater(reactor, 0.02)
    assert [row["job"] for row in left] == jobs[:1]
    assert len(parts(tmp_path)) == 1
    await rig.store.cancel(other)
    await until(lambda: not parts(tmp_path))


@pytest_twisted.ensureDeferred
async def test_rotation(post: Post, tmp_path: Path) -> None:
    """Rows that no key opens keep no other from being sealed anew; one that cannot be changed keeps its key."""
    rig, path = post.rig, tmp_path / "key"

    async def ask(ring: KeyRing, count: int) -> None:
        write(path, ring)
        store = JobStore(rig.database, KeyFile(path), rig.news, reactor, lambda: rig.limits)
        for _ in range(count):
            job = NewJob(files=(file(url("http://127.0.0.1/f?signature=x"), "archive", "f"),), owner="tester")
            await store.submit([job])

    async def pause() -> None:
        pass

    await ask(KeyRing.new(), 1)
    old = KeyRing.new()
    await ask(old, 3)
    write(path, old.prepared().turned())
    refusal = await refuse(post, "transfers", "UPDATE", "NEW.job = 3", "XX001")
    looks: list[ResealReport] = []
    with pytest.raises(StartError, match="1 row could not be resealed, so the old key stays in"):
        await settle(path, rig.database, pause, looks.append)
    assert [(look.sealed, look.lost, look.refused) for look in looks] == [(2, 1, 1)]
    assert old.sealing in KeyRing.parse(path.read_bytes()).keys

    await rig.database.execute(refusal.end)
    await settle(path, rig.database, pause, looks.append)
    ring = KeyRing.parse(path.read_bytes())
    assert (len(ring.keys), ring.sealing == old.sealing) == (1, False)
    cipher = Cipher.from_file(path)
    rows = await rig.database.fetch("SELECT source_sealed FROM transfers ORDER BY id")
    assert [cipher.current(bytes(row["source_sealed"])) for row in rows] == [False, True, True, True]


def write(path: Path, ring: KeyRing) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(ring.content())
    path.chmod(0o600)
