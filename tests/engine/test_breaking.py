"""What breaks on the way: retries that are told, resumption from what is proven, cancelling, nodes that die."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from datamover.engine import dispatcher, maintenance
from datamover.engine.lease import Lease
from datamover.errors import ConnectFailed, ConnectionLost, InvalidState, Scope, Unavailable
from datamover.jobs import work
from datamover.jobs.queue.retry import PATIENT
from datamover.jobs.values import State, Transfer
from datamover.jobs.work import Group, Outcome
from datamover.postgres.database import Cursor, Database
from datamover.postgres.named_queries import QUERIES
from tests.engine.rig import PATIENCE, Rig, file, large, parts, url
from tests.servers import postgres
from tests.servers.web import Exchange, File, Web
from tests.waiting import until

MIB = 2**20
big = partial(large, 96 * MIB)


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    rig = await Rig(reactor, tmp_path).open(
        {
            "archive": {"url": (tmp_path / "archive").as_uri()},
            "slow": {"url": (tmp_path / "slow").as_uri(), "bandwidth": "20MB/s", "max_active": 1},
            "breaking": {"url": f"faulty://{tmp_path}/breaking", "bandwidth": "20MB/s"},
        },
        transfers={"max_attempts": 3},
    )
    yield rig
    await rig.close()


async def sent(rig: Rig, job: int, least: int) -> None:
    """Wait until a checkpoint of at least so many bytes is in the database."""
    deadline = reactor.seconds() + PATIENCE
    while True:
        rows = await rig.database.fetch(
            "SELECT (checkpoint->>'offset')::bigint AS offset FROM transfers WHERE job = %(job)s", {"job": job}
        )
        if (rows[0]["offset"] or 0) >= least:
            return
        assert reactor.seconds() < deadline, "no checkpoint came"
        await deferLater(reactor, 0.01)


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [
        (404, "SOURCE_NOT_FOUND", 1),
        (410, "SOURCE_NOT_FOUND", 1),
        (403, "SOURCE_FORBIDDEN", 1),
        (500, "SERVER_ERROR", 3),
        (503, "SERVER_ERROR", 3),
        (429, "RATE_LIMITED", 3),
    ],
)
@pytest_twisted.ensureDeferred
async def test_status(rig: Rig, web: Web, tmp_path: Path, status: int, code: str, attempts: int) -> None:
    """What trying again may mend is tried as often as was asked, and longer where a pause is; what it cannot is not."""
    await rig.engine()
    web.route("/f", lambda exchange: exchange.answer(status))

    job, files = await rig.moved(file(url(f"{web.url}/f?token=secret"), "archive", "f"), max_attempts=3)

    assert (job.state, files[0].attempt) == (State.FAILED, attempts)
    assert job.error is not None
    assert job.first_error is not None
    assert (job.error["code"], job.error["attempt"], job.first_error["attempt"]) == (code, attempts, 1)
    assert "secret" not in str(job) + str(files) + str(await rig.store.events(job=job.id))
    kinds = await rig.kinds(job.id)
    assert kinds.count("retrying") == attempts - 1 + (PATIENT if code == "RATE_LIMITED" else 0)
    assert not parts(tmp_path)
    assert not (tmp_path / "archive/f").exists()


@pytest_twisted.ensureDeferred
async def test_retried_where_pauses_are_asked_for(rig: Rig, web: Web) -> None:
    """A client that has a file tried again has it wait for a busy server as patiently as before."""
    await rig.engine()
    web.route("/f", lambda exchange: exchange.answer(429))
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=2)
    before = (await rig.kinds(job.id)).count("retrying")
    assert before == 1 + PATIENT
    await rig.store.retry(job.id)
    assert (await rig.ended(job.id)).state is State.FAILED
    assert (await rig.kinds(job.id)).count("retrying") == before + 1 + before  # The client's own is told, too.


@pytest_twisted.ensureDeferred
async def test_comes_back(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A server that fails and comes back is asked again; the first error stays to be seen, the last does not."""
    await rig.engine()
    failures = iter([500, 502])
    whole = File(b"content", etag='"1"')

    def answer(exchange: Exchange) -> Any:
        status = next(failures, None)
        return exchange.answer(status) if status else whole(exchange)

    web.route("/f", answer)
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=3)

    assert job.state is State.COMPLETED
    assert job.error is None
    assert job.first_error is not None
    assert "500" in job.first_error["message"]
    assert (tmp_path / "archive/f").read_bytes() == b"content"


@pytest_twisted.ensureDeferred
async def test_broken_connections_use_up_no_attempts(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A transfer whose connection breaks again and again goes on from what arrived, and is not given up."""
    await rig.engine()
    piece = 20 * MIB
    whole = File(big(), etag='"1"', cut=piece)
    web.route("/f", whole)

    job, files = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=1)

    assert job.state is State.COMPLETED, job.error
    assert (tmp_path / "archive/f").read_bytes() == big()
    assert files[0].attempt == 1
    assert (await rig.kinds(job.id)).count("started") == 5
    resumed = [event for event in await rig.store.events(job=job.id) if event.kind == "resumed"]
    assert [event.details["from"] for event in resumed] == [piece * number for number in range(1, 5)]
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_written_in_place_after_it_broke(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A file that is overwritten while the rest of it is sent, under its old tag, is read once more from zero."""
    await rig.engine()
    half = 8 * MIB
    served = File(b"o" * 2 * half, etag='"1"', cut=half, cuts=1)

    def answer(exchange: Exchange) -> None:
        if exchange.request.headers.get("range") == f"bytes={half}-":
            served.content = b"n" * 2 * half
            served(exchange)
            served.etag = '"2"'
        else:
            served(exchange)

    web.route("/f", answer)
    job, files = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=3)

    assert job.state is State.COMPLETED, job.error
    assert (tmp_path / "archive/f").read_bytes() == served.content
    assert files[0].attempt == 2
    assert [
        event.details["error"]["code"] for event in await rig.store.events(job=job.id) if event.kind == "retrying"
    ] == [
        "CONNECTION_LOST",
        "SOURCE_CHANGED",
    ]
    assert "resumed" in await rig.kinds(job.id)
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_cancel(rig: Rig, web: Web, tmp_path: Path) -> None:
    """Cancelling stops a running transfer and removes what it brought; the job says who stopped it."""
    await rig.engine()
    web.route("/f", File(big(), etag='"1"'))
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await until(lambda: parts(tmp_path))

    await rig.store.cancel(job)
    record = await rig.ended(job)

    assert record.state is State.CANCELLED
    assert not parts(tmp_path)
    assert not (tmp_path / "slow/f").exists()
    with pytest.raises(InvalidState):
        await rig.store.retry(job)


@pytest_twisted.ensureDeferred
async def test_cancel_while_it_waits(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A job that waits for its turn says what for, and ends at once when it is cancelled."""
    await rig.engine()
    web.route("/f", File(big(), etag='"1"'))
    running = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await until(lambda: parts(tmp_path))
    waiting = await rig.ask(file(url(f"{web.url}/f"), "slow", "g"))

    record = await rig.store.job(waiting)
    cancelled = await rig.store.cancel(waiting)
    await rig.store.cancel(running)

    assert record.waiting_for == "destination slow: 1 of 1 transfer active"
    assert cancelled.state is State.CANCELLED
    assert (await rig.ended(running)).state is State.CANCELLED


@pytest_twisted.ensureDeferred
async def test_stopping_and_going_on(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A node that stops hands back its work at once, and the next goes on where it was."""
    first = await rig.engine()
    web.route("/f", File(big(), etag='"1"'))
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await sent(rig, job, 1)

    await first.stop()
    rig.engines.remove(first)
    parked = await rig.store.job(job)
    rig.lift_limits()
    await rig.engine()
    record = await rig.ended(job)

    assert parked.bytes_done > 0
    assert parked.waiting_for is not None
    assert record.state is State.COMPLETED
    assert (tmp_path / "slow/f").read_bytes() == big()
    resumed = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert len(resumed) == 1
    assert resumed[0]["resent"] == 0
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_lost_lease(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A node that can no longer renew its lease stops in time; another goes on, and the file arrives whole."""
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    cut_off = await rig.engine(lease=3.0, database=own)
    web.route("/f", File(big(), etag='"1"'))
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await sent(rig, job, 1)

    await own.close()
    await until(lambda: not cut_off.dispatcher.active)
    rig.lift_limits()
    await rig.engine()
    record = await rig.ended(job)

    assert record.state is State.COMPLETED, record.error
    assert (tmp_path / "slow/f").read_bytes() == big()
    assert (await rig.kinds(job)).count("started") == 2
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_cancel_what_a_dead_node_left(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A part file of which its node told nobody before it died is removed when the job is cancelled."""
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    cut_off = await rig.engine(lease=3.0, database=own)
    web.route("/f", File(big(), etag='"1"'))
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await until(lambda: parts(tmp_path))
    await own.close()
    await until(lambda: not cut_off.dispatcher.active)
    assert parts(tmp_path)

    await rig.store.cancel(job)
    await rig.engine()
    record = await rig.ended(job)

    assert record.state is State.CANCELLED
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_retry(rig: Rig, web: Web, tmp_path: Path) -> None:
    """Only what failed is moved again when the client asks, and the history stays."""
    await rig.engine()
    web.route("/a", File(b"a", etag='"1"'))
    job, _ = await rig.moved(*(file(url(f"{web.url}/{name}"), "archive", name) for name in "ab"))
    assert job.state is State.PARTIAL

    web.route("/b", File(b"b", etag='"1"'))
    await rig.store.retry(job.id)
    again = await rig.ended(job.id)

    assert again.state is State.COMPLETED
    assert (again.files_completed, again.files_failed) == (2, 0)
    assert (tmp_path / "archive/b").read_bytes() == b"b"
    assert [request.path for request in web.requests].count("/a") == 1
    assert "failed" in await rig.kinds(job.id)


@pytest_twisted.ensureDeferred
async def test_changed_meanwhile(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A source that changed between two attempts is moved from its beginning, not patched together."""
    await rig.engine()
    old, new = big()[: 60 * MIB], big()[1 : 60 * MIB]
    web.route("/f", File(old, etag='"1"', cut=40 * MIB))
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await sent(rig, job, 1)
    web.route("/f", File(new, etag='"2"'))
    rig.lift_limits()
    record = await rig.ended(job)

    assert record.state is State.COMPLETED
    assert (tmp_path / "slow/f").read_bytes() == new
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_claim_whose_answer_was_lost(rig: Rig, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a claim took whose answer was lost is taken up at once, and what runs is left alone."""
    engine = await rig.engine(lease=600.0)
    for name in "ab":
        web.route(f"/{name}", File(big(), etag='"1"'))
    running = await rig.ask(file(url(f"{web.url}/a"), "slow", "a"))
    await sent(rig, running, 1)
    claim = engine.queue.claim
    lost: list[Group] = []

    async def losing(*arguments: Any) -> list[Group]:
        groups = await claim(*arguments)
        if groups and not lost:
            lost.extend(groups)
            raise Unavailable("the connection broke")
        return groups

    monkeypatch.setattr(engine.queue, "claim", losing)
    job = await rig.ask(file(url(f"{web.url}/b"), "archive", "b"))
    record = await rig.ended(job)

    assert record.state is State.COMPLETED
    assert [group.leader.job for group in lost] == [job]
    assert (await rig.kinds(job)).count("started") == 2
    await rig.ended(running)
    assert (await rig.kinds(running)).count("started") == 1


@pytest_twisted.ensureDeferred
async def test_end_whose_answer_comes_late(rig: Rig, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a renewal does not find because its end has been written is not taken for lost."""
    engine = await rig.engine(lease=3.0)
    web.route("/f", File(b"f", etag='"1"'))
    settle, renew = engine.queue.settle, engine.queue.renew
    passed_over = Deferred[None]()

    async def settling(outcomes: Sequence[Outcome]) -> None:
        await settle(outcomes)
        await passed_over

    async def renewing(held: Sequence[Transfer]) -> dict[tuple[int, int], Any]:
        ours = await renew(held)
        if not ours and not passed_over.called:
            rig.reactor.callLater(0, passed_over.callback, None)
        return ours

    monkeypatch.setattr(engine.queue, "settle", settling)
    monkeypatch.setattr(engine.queue, "renew", renewing)
    with capturedLogs() as told:
        await rig.ended(await rig.ask(file(url(f"{web.url}/f"), "archive", "f")))
        await passed_over
        await until(lambda: not engine.dispatcher.active)
    assert not [event for event in told if "lost the lease" in str(event.get("log_format"))]


@pytest_twisted.ensureDeferred
async def test_claim_that_waits_for_longer_than_a_lease(rig: Rig, web: Web) -> None:
    """What a claim took after it had waited for another's end is ours for a whole lease, and moved at once."""
    await rig.engine(lease=2.0)
    web.route("/f", File(b"f", etag='"1"'))

    async def claim_in_front(cursor: Cursor) -> int:
        await cursor.execute(QUERIES["serialise_claims"])
        job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
        await deferLater(reactor, 2.2)
        return job

    job = await rig.database.transaction(claim_in_front)
    record = await rig.ended(job)

    assert record.state is State.COMPLETED
    assert (await rig.store.files(job))[0].attempt == 1


@pytest.mark.parametrize("size", [1, 64 * MIB])
@pytest_twisted.ensureDeferred
async def test_lease_lost_before_the_part_file(
    rig: Rig, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A node that has lost its lease by then makes no part file: whoever has it may have looked for those already."""
    made: list[Lease] = []

    def lost(leader: Transfer, ends_at: float, monotonic: Callable[[], float]) -> Lease:
        made.append(Lease(leader, monotonic() - 1.0, monotonic))
        return made[-1]

    monkeypatch.setattr(dispatcher, "Lease", lost)
    monkeypatch.setattr(dispatcher, "POLL", 600.0)  # It learns of it by itself.
    engine = await rig.engine(lease=600.0)
    web.route("/f", File(big()[:size], etag='"1"'))
    await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await until(lambda: made and not engine.dispatcher.active)

    assert web.requests
    assert not list((tmp_path / "archive").rglob("*"))


@pytest_twisted.ensureDeferred
async def test_completed_with_nothing_left(rig: Rig, web: Web, tmp_path: Path) -> None:
    """An attempt that cannot look for what another left makes room for one that can, before the file is placed."""
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    dead = await rig.engine(lease=3.0, database=own)
    looks: list[str] = []

    async def before(operation: str, path: str) -> None:
        if operation == "list":
            looks.append(path)
            if len(looks) == 1:
                raise ConnectionLost("the connection broke", scope=Scope.DESTINATION)

    rig.faulty.before = before
    web.route("/f", File(big(), etag='"1"'))
    job = await rig.ask(file(url(f"{web.url}/f"), "breaking", "f"))
    await until(lambda: parts(tmp_path))
    await own.close()
    await until(lambda: not dead.dispatcher.active)
    web.route("/f", File(big()[: 30 * MIB], etag='"2"'))
    rig.lift_limits()
    await rig.engine()

    assert (await rig.ended(job)).state is State.COMPLETED
    assert len(looks) == 2
    assert not parts(tmp_path)


@pytest.mark.parametrize("how", ["fails", "is cancelled", "is retried"])
@pytest_twisted.ensureDeferred
async def test_left_at_a_destination_that_is_away(
    rig: Rig, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What could not be removed when a transfer ended is removed when its destination is back, or gone on from."""
    monkeypatch.setattr(maintenance, "LOOKING", 0.1)
    monkeypatch.setattr(work, "SWEEPING", 0.5)
    away = False

    async def before(operation: str, path: str) -> None:
        if away:
            raise ConnectFailed("nobody answers", scope=Scope.DESTINATION)

    rig.faulty.before = before
    web.route("/f", File(big()[: 40 * MIB], etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "breaking", "f"), max_attempts=1)
    await until(lambda: parts(tmp_path))
    away = True
    if how == "is cancelled":
        await rig.store.cancel(job)
    record = await rig.ended(job)
    assert record.state is (State.CANCELLED if how == "is cancelled" else State.FAILED)
    assert parts(tmp_path)
    away = False
    if how == "is retried":
        rig.lift_limits()
        await rig.store.retry(job)
        assert (await rig.ended(job)).state is State.COMPLETED
    await until(lambda: not parts(tmp_path))
    while await rig.database.fetch("SELECT FROM transfers WHERE traces"):
        await deferLater(reactor, 0.02)
    assert (tmp_path / "breaking/f").exists() == (how == "is retried")
