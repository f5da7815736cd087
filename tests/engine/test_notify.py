"""Telling clients of the ends of their jobs: what is said, to whom, signed how, and again if asked."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from datamover.config import schema
from datamover.errors import InvalidState, UnknownJob
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import State
from datamover.notices.notifier import NotifierLimits
from tests.engine.post import SECRET, Post, answering, headers, opened, read, verified
from tests.engine.rig import file, place, url
from tests.servers.exchange import Exchange, Request
from tests.servers.web import File, status


@pytest_twisted.async_yield_fixture
async def post(tmp_path: Path) -> Any:
    post = await opened(tmp_path)
    yield post
    await post.close()


@pytest_twisted.ensureDeferred
async def test_a_job_that_completes(post: Post, tmp_path: Path) -> None:
    """When a job has completed its client is told once, signed so that the check of docs/api.md passes."""
    post.web.route("/moved", status(204))
    post.web.route("/data.csv", File(b"a,b\n"))
    await post.notifier()
    await post.rig.engine()

    job, _ = await post.rig.moved(
        file(url(f"{post.web.url}/data.csv"), "archive", "data.csv"),
        notify=url(f"{post.web.url}/moved"),
        label="Grüße",
        request_id="r-1",
        fingerprint="f",
    )
    [event] = await post.told(job.id, "notified")

    [request] = post.web.asked("/moved")
    told = read(request)
    assert told.pop("id")
    assert told.pop("at") == f"{job.finished_at:%Y-%m-%dT%H:%M:%SZ}"
    assert told == {
        "job": job.id,
        "status": "COMPLETED",
        "label": "Grüße",
        "request_id": "r-1",
        "files_total": 1,
        "files_completed": 1,
        "files_failed": 0,
        "bytes_done": 4,
        "attempt": 1,
    }
    assert event.details == {"attempt": 1}


@pytest_twisted.ensureDeferred
async def test_a_job_that_fails(post: Post) -> None:
    """A job that failed tells its error; after ``jobs.retry`` its next end is told under another id."""
    post.web.route("/moved", status(200))
    await post.notifier()
    await post.rig.engine()

    number = await post.rig.ask(
        file(url(f"{post.web.url}/missing.csv"), "archive", "a.csv"), notify=url(f"{post.web.url}/moved")
    )
    await post.told(number, "notified")
    post.web.route("/missing.csv", File(b"x"))
    await post.rig.store.retry(number)
    await post.told(number, "notified", 2)

    failed, completed = map(read, post.web.asked("/moved"))
    assert (failed["status"], failed["files_failed"], failed["error"]["code"]) == ("FAILED", 1, "SOURCE_NOT_FOUND")
    assert (completed["status"], completed["files_failed"], "error" in completed) == ("COMPLETED", 0, False)
    assert failed["id"] != completed["id"]


@pytest_twisted.ensureDeferred
async def test_a_job_that_is_cancelled(post: Post) -> None:
    """A job's end by its client's word is told as well."""
    post.web.route("/moved", status(200))
    await post.notifier()
    number = await post.ended()
    await post.told(number, "notified")
    assert read(post.web.asked("/moved")[0])["status"] == "CANCELLED"


@pytest_twisted.ensureDeferred
async def test_a_job_that_is_overdue(post: Post) -> None:
    """A job whose deadline passes while it waits is told as failed."""
    post.web.route("/moved", status(200))
    await post.notifier()
    await post.rig.engine(max_active=1)
    job = file(place("store", "a.csv"), "archive", "a.csv")
    number = await post.rig.ask(job, notify=url(f"{post.web.url}/moved"), deadline=0.001)
    await post.told(number, "notified")
    assert read(post.web.asked("/moved")[0])["error"]["code"] == "DEADLINE_EXCEEDED"


@pytest_twisted.ensureDeferred
async def test_a_job_without_notify(post: Post) -> None:
    """A job that was asked for without ``notify`` tells nobody, and there is nothing to tell again."""
    await post.notifier()
    number = await post.rig.ask(file(place("store", "a.csv"), "archive", "a.csv"))
    await post.rig.store.cancel(number)
    with pytest.raises(InvalidState, match="without notify"):
        await post.rig.store.renotify(number)
    assert await post.rig.database.fetch("SELECT job FROM notices") == []


@pytest_twisted.ensureDeferred
async def test_many_jobs_and_two_notifiers(post: Post) -> None:
    """Two notifiers share fifty notices, each sent once, and no more than so many at a time to one host."""
    active, most = 0, 0

    async def slowly(exchange: Exchange) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await exchange.pause(0.02)
        active -= 1
        exchange.answer(200)

    post.web.route("/moved", slowly)
    numbers = [await post.ended() for _ in range(50)]
    await post.notifier()
    await post.notifier()
    for number in numbers:
        await post.told(number, "notified")
    assert sorted(read(request)["job"] for request in post.web.asked("/moved")) == numbers
    assert most <= 4


@pytest_twisted.ensureDeferred
async def test_no_secret_yet(post: Post) -> None:
    """Nothing is sent unsigned: a secret that is missing is waited for, and a new one is used from then on."""
    post.web.route("/moved", status(200))
    post.secret.unlink()
    await post.notifier()
    number = await post.ended()
    [failed, *_] = await post.told(number, "notify_failed")
    assert failed.details["error"]["code"] == "AUTHENTICATION_FAILED"
    assert post.web.requests == []

    post.secret.write_text("another secret")
    post.secret.chmod(0o600)
    await post.told(number, "notified")
    assert read(post.web.asked("/moved")[0], "another secret")
    with pytest.raises(ValueError, match="not signed with our secret"):
        read(post.web.asked("/moved")[0])


@pytest_twisted.ensureDeferred
async def test_each_client_has_its_own_secret(post: Post, tmp_path: Path) -> None:
    """A notice is signed with the secret of the client who asked for the job; one without gets none."""
    post.web.route("/moved", status(200))
    (tmp_path / "other").write_text("the other's")
    (tmp_path / "other").chmod(0o600)
    clients = {
        "portal": schema.Client(password_hash="x", notify_secret_file=post.secret),
        "other": schema.Client(password_hash="x", notify_secret_file=tmp_path / "other"),
    }
    await post.notifier(clients=clients)
    for owner, secret in (("portal", SECRET), ("other", "the other's")):
        number = await post.ended(owner=owner)
        await post.told(number, "notified")
        assert read(post.web.requests[-1], secret)["job"] == number
    left = await post.ended(owner="who left")
    [failed, *_] = await post.told(left, "notify_failed")
    assert "[clients.who left] notify_secret_file" in failed.details["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_renotify(post: Post) -> None:
    """A notice is sent once more, with the same id, when its owner or an administrator asks; nobody else may."""
    post.web.route("/moved", status(200))
    await post.notifier()
    number = await post.ended(owner="portal")
    await post.told(number, "notified")
    with pytest.raises(UnknownJob):
        await post.rig.store.renotify(number, "other")
    for count, owner in ((2, "portal"), (3, None)):
        record = await post.rig.store.renotify(number, owner)
        assert record.state is State.CANCELLED
        await post.told(number, "notified", count)
    told = [read(request) for request in post.web.asked("/moved")]
    assert told == [told[0]] * 3
    assert [event.details["by"] for event in await post.told(number, "renotified", 2)] == ["portal", "administrator"]


@pytest_twisted.ensureDeferred
async def test_told_at_once(post: Post) -> None:
    """A job's end, and the wish to be told again, reach a notifier by a word, not by its next look."""
    post.web.route("/moved", status(200))
    await post.notifier(limits=NotifierLimits(poll=3600.0))
    number = await post.ended()
    await post.told(number, "notified")
    await post.rig.store.renotify(number)
    await post.told(number, "notified", 2)


@pytest_twisted.ensureDeferred
async def test_kept_for_as_long_as_the_job(post: Post) -> None:
    """What could not be delivered by the time that the job's history is forgotten is forgotten with it."""
    await post.ended()
    await post.rig.database.execute("UPDATE jobs SET finished_at = now() - interval '2 days'")
    assert await Upkeep(post.rig.database, retention=lambda: 86_400.0).retire() == 1
    assert await post.rig.database.fetch("SELECT job FROM notices") == []


@pytest_twisted.ensureDeferred
async def test_renotify_before_the_end(post: Post) -> None:
    """There is nothing to tell of a job that has not ended."""
    number = await post.rig.ask(file(place("store", "a.csv"), "archive", "a.csv"), notify=url(f"{post.web.url}/moved"))
    with pytest.raises(InvalidState, match="is PENDING: its notice is sent when it has ended"):
        await post.rig.store.renotify(number)


@pytest_twisted.ensureDeferred
async def test_a_signature_that_is_wrong(post: Post) -> None:
    """What docs/api.md tells receivers to check refuses another body, another id, another time, and an old one."""
    post.web.route("/moved", status(200))
    await post.notifier()
    await post.told(await post.ended(), "notified")
    [request] = post.web.asked("/moved")
    with pytest.raises(ValueError, match="not signed"):
        verified(headers(request), request.body + b" ", SECRET)
    for name in ("datamover-id", "datamover-timestamp", "datamover-signature"):
        changed = Request("POST", "/", {**request.headers, name: "1"}, 1, 1, request.body)
        with pytest.raises(ValueError, match="not signed"):
            verified(headers(changed), request.body, SECRET)


@pytest_twisted.ensureDeferred
async def test_nothing_secret_is_told(post: Post) -> None:
    """Neither the secret nor the value of a URL's query is in a row, an event, a log line or a notice."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event) + str(event.get("log_failure", "")))

    globalLogPublisher.addObserver(observe)
    try:
        post.web.route("/moved", answering(500, 302, 200))
        await post.notifier()
        number = await post.ended("/moved?key=t0psecret")
        await post.told(number, "notified")
    finally:
        globalLogPublisher.removeObserver(observe)
    assert post.web.requests[-1].target == "/moved?key=t0psecret"
    rows = [
        json.dumps(row, default=str)
        for table in ("jobs", "transfers", "notices", "events")
        for row in await post.rig.database.fetch(f"SELECT * FROM {table}")
    ]
    bodies = [request.body.decode() for request in post.web.requests]
    texts = [*lines, *rows, *bodies, repr(await post.rig.store.events(job=number))]
    assert any("key=***" in text for text in texts)
    for text in texts:
        assert "t0psecret" not in text
        assert SECRET not in text
