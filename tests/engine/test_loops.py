"""Each loop is broken once, by an error that nobody foresaw, and goes on: what is asked meanwhile is done."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs

from datamover import processes
from datamover.audit.trail import AuditEvent, AuditStore, AuditTrail
from datamover.concurrency.loops import LOOPS, Loops
from datamover.concurrency.stopping import Deadline
from datamover.engine import dispatcher, maintenance
from datamover.engine.groups.staging import Staging
from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.recorder import Recorder
from datamover.engine.service import EngineService
from datamover.jobs import notifications
from datamover.jobs.queue.cleanup import OrphanCleanup
from datamover.jobs.queue.queue import Queue
from datamover.jobs.queue.reservations import Reservations
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import State
from datamover.monitor.cached import Cached
from datamover.monitor.service import EVERY, LagProbe
from datamover.monitor.supervisor import ServiceManager, Supervised
from datamover.notices.queue import Notices
from datamover.postgres import listening
from datamover.postgres.connection import PostgresConnection
from datamover.postgres.database import Database
from datamover.processes.messages import StatusMessage
from datamover.processes.parent import EVERY as SAYING
from datamover.processes.parent import WITHIN, ParentLink
from tests.engine.post import Post, opened
from tests.engine.rig import file, place, url
from tests.engine.test_refused import Gate
from tests.servers import postgres
from tests.servers.web import status
from tests.waiting import until

ENGINE: dict[str, tuple[Any, str]] = {
    "changes": (Upkeep, "carry_out"),
    "claims": (Queue, "claim"),
    "clock": (Upkeep, "mend_clock"),
    "heartbeat": (Queue, "heartbeat"),
    "leases": (Lease, "extend"),
    "lost leases": (dispatcher.Dispatcher, "_lose"),
    "notices": (Notices, "claim"),
    "progress": (Meter, "unwritten"),
    "quotas": (Queue, "over_daily_quota"),
    "retirement": (Upkeep, "retire_some"),
    "room": (Reservations, "due"),
    "shares": (Queue, "shares"),
    "stops": (Queue, "stopping"),
    "sweeping": (OrphanCleanup, "take"),
    "takeovers": (Queue, "take_over"),
    "upkeep": (maintenance.Maintenance, "_keep_up"),
}
"""What each loop of an engine calls."""
NODE = "6f9619ff-8b86-4d01-b42d-00c04fc964ff"
OTHERS = {
    "audit",
    "database",
    "engine",
    "figures",
    "lag",
    "listener",
    "processes",
    "service manager",
    "submissions",
    "watchdog",
    "status messages",
}
"""Loops that are broken by tests of their own: ``processes`` in test_processes_kept, the others below."""


class Broken:
    """Has a function raise, the first time that it is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holder: Any, name: str) -> None:
        self.met = False
        original = getattr(holder, name)

        def broken(*arguments: Any, **named: Any) -> Any:
            if not self.met:
                self.met = True
                raise RuntimeError(f"{name} is broken by the test")
            return original(*arguments, **named)

        monkeypatch.setattr(holder, name, broken)


def test_every_loop_is_broken() -> None:
    """There is no loop that no test breaks."""
    assert set(ENGINE) | OTHERS == set(LOOPS)


@pytest_twisted.async_yield_fixture
async def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine and a notifier whose loops turn often."""
    monkeypatch.setattr(maintenance, "LOOKING", 0.1)
    monkeypatch.setattr(maintenance, "RETIRING", 0.1)
    post = await opened(tmp_path, f"faulty://{tmp_path}/archive")
    post.web.route("/moved", status(200))
    (tmp_path / "store").mkdir()
    (tmp_path / "store/a.csv").write_bytes(b"a,b")
    yield post
    await post.close()


@pytest.mark.parametrize("name", ENGINE)
@pytest_twisted.ensureDeferred
async def test_of_an_engine(post: Post, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is logged with its traceback, counted, told of until the loop turns, and the job is moved and told of."""
    rig = post.rig
    gate = Gate(rig)
    broken = Broken(monkeypatch, *ENGINE[name])
    if name == "lost leases":
        monkeypatch.setattr(Lease, "extend", lambda *_: None)
    with capturedLogs() as told:
        await post.notifier()
        engine = await rig.engine(lease=0.6)
        job = file(place("store", "a.csv"), "archive", "a.csv")
        number = await rig.ask(job, notify=url(f"{post.web.url}/moved"))
        await until(lambda: gate.waiting)
        rig.news.publish(notifications.STOP)
        await until(lambda: broken.met)
        gate.open()
        assert (await rig.ended(number)).state is State.COMPLETED
        await post.told(number, "notified")
        await until(lambda: not rig.loops.troubles)
    assert rig.failures == [name]
    tracebacks = [event["log_failure"].getTraceback() for event in told if "log_failure" in event]
    assert len(tracebacks) == 1
    assert "is broken by the test" in tracebacks[0]
    assert engine.dispatcher.running


@pytest_twisted.ensureDeferred
async def test_listener(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that listens and cannot be made as it should is made again; words arrive."""
    monkeypatch.setattr(listening, "PAUSES", (0.05,))
    rig = post.rig
    heard: list[str] = []
    rig.news.subscribe(heard.append)
    broken = Broken(monkeypatch, PostgresConnection, "listen")
    await rig.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    )
    await until(lambda: broken.met and "" in heard)
    await rig.database.execute("SELECT pg_notify('datamover', 'word')")
    await until(lambda: "word" in heard)
    assert rig.failures == ["listener"]
    assert not rig.loops.troubles


@pytest_twisted.ensureDeferred
async def test_database(post: Post) -> None:
    """A database that could not be opened, by an error that nobody foresaw, is opened a moment later."""
    failures: list[str] = []
    errors = [RuntimeError("nobody foresaw this")]

    async def prepare(_: Database) -> None:
        if errors:
            raise errors.pop()

    database = Database(reactor, postgres.address(post.rig.url), 1, Loops(reactor, failures.append))
    database.start(prepare)
    try:
        await database.opened()
        assert failures == ["database"]
    finally:
        await database.close()


@pytest_twisted.ensureDeferred
async def test_hearers(post: Post) -> None:
    """One who hears a word and raises keeps no other from hearing it."""
    heard: list[str] = []

    def raising(word: str) -> None:
        raise RuntimeError(word)

    post.rig.news.subscribe(raising)
    post.rig.news.subscribe(heard.append)
    with capturedLogs() as told:
        post.rig.news.publish("word")
    assert heard == ["word"]
    assert "log_failure" in told[0]


@pytest_twisted.ensureDeferred
async def test_audit(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that could not be written by an error that nobody foresaw is written with the next."""
    audit = AuditTrail(AuditStore(post.rig.database), reactor, post.rig.loops.refused)
    Broken(monkeypatch, AuditStore, "write")
    await audit.record(AuditEvent("boss", "here", "service.drain"))
    await audit.record(AuditEvent("boss", "here", "service.undrain"))
    assert sorted(entry.event.action for entry in await audit.store.read()) == ["service.drain", "service.undrain"]
    assert post.rig.failures == ["audit"]


@pytest_twisted.ensureDeferred
async def test_submissions(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that are stored together none is lost to an error that nobody foresaw of their common statement."""
    rig = post.rig
    Broken(monkeypatch, Database, "fetch")
    asking = [
        Deferred.fromCoroutine(rig.ask(file(place("store", "a.csv"), "archive", str(number)))) for number in range(9)
    ]
    answers = await DeferredList(asking, consumeErrors=True)
    assert [stored for stored, _ in answers].count(False) == 1
    assert len(await rig.database.fetch("SELECT id FROM jobs")) == 8
    assert rig.failures == ["submissions"]


@pytest_twisted.ensureDeferred
async def test_engine(post: Post, tmp_path: Path) -> None:
    """An engine that could not begin, by an error that nobody foresaw, begins a moment later."""
    rig = post.rig
    failing = [RuntimeError("nobody foresaw this")]
    gave_up: list[str] = []

    class Made:
        """A dispatcher that was started, or not."""

        running = False

        def start(self) -> None:
            self.running = True

        async def stop(self, grace: float, deadline: Deadline) -> None:
            self.running = False

    async def make() -> Any:
        if failing:
            raise failing.pop()
        return Made()

    staging = Staging(tmp_path / "own", "node", reactor, rig.pools.staging)
    service = EngineService(
        opened=rig.database.opened,
        staging=staging,
        recorder=Recorder(Queue(rig.database, rig.seal, node=NODE, name="n", roles=[]), reactor, loops=rig.loops),
        dispatcher=make,
        give_up=gave_up.append,
        loops=rig.loops,
    )
    service.startService()
    await until(lambda: service.working)
    assert rig.failures == ["engine"]
    await service.stopService()
    assert not gave_up


# Of a process -------------------------------------------------------------------------------------------------


class Process:
    """Loops on a clock of the test's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.failures: list[str] = []
        self.loops = Loops(self.clock, self.failures.append)


def test_lag() -> None:
    """The probe goes on when what it tells raises."""
    process = Process()
    lags: list[float] = []

    def lagged(seconds: float) -> None:
        lags.append(seconds)
        if len(lags) == 1:
            raise RuntimeError

    probe = LagProbe(process.clock, process.clock.seconds, lagged, process.loops)
    probe.startService()
    process.clock.pump([EVERY, 0.1, EVERY, EVERY])
    assert len(lags) == 3
    assert process.failures == ["lag"]
    probe.stopService()
    assert not process.clock.getDelayedCalls()


def test_figures() -> None:
    """A figure that cannot be made is left out, counted, and made anew when it is next asked for."""
    process = Process()
    makes: Iterator[Exception | int] = iter([RuntimeError(), 7])

    async def make() -> int:
        made = next(makes)
        if isinstance(made, Exception):
            raise made
        return made

    failed = lambda: process.failures.append("figures")  # noqa: E731
    value = Cached(make, process.clock, seconds=1, patience=1, share=1, failed=failed)
    found: list[int | None] = []
    Deferred.fromCoroutine(value.get()).addCallback(found.append)
    process.clock.advance(2)
    Deferred.fromCoroutine(value.get()).addCallback(found.append)
    assert found == [None, 7]
    assert process.failures == ["figures"]


class Deaf(ServiceManager):
    """A service manager; what it is told is kept, and the first time it raises."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "somewhere", "WATCHDOG_USEC": "2000000"})
        self.told: list[dict[str, str | int]] = []
        self.broken = False

    def tell(self, **facts: str | int) -> None:
        if not self.broken and "WATCHDOG" in facts:
            self.broken = True
            raise RuntimeError
        self.told.append(facts)


def test_service_manager() -> None:
    """The manager goes on hearing how the process is, and that it lives, whatever kept it from being told once."""
    process = Process()
    manager = Deaf()
    looks: list[int] = []

    async def look() -> tuple[int, str, bytes]:
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError
        return 200, "", b"ok\n"

    service = Supervised(manager, look, process.clock, process.loops)
    service.startService()
    process.clock.pump([0.1] * 25)
    assert sorted(process.failures) == ["service manager", "watchdog"]
    assert {"READY": 1, "STATUS": "ready"} in manager.told
    assert manager.told.count({"WATCHDOG": 1}) >= 2
    assert len(looks) >= 2
    service.stopService()
    assert not process.clock.getDelayedCalls()


def test_what_hangs_gives_no_sign_of_life() -> None:
    """A loop that hangs, and hangs again when it is begun anew, keeps the manager from hearing that all is well."""
    process = Process()
    manager = Deaf()
    manager.broken = True

    async def look() -> tuple[int, str, bytes]:
        troubles = process.loops.troubles
        return (503, "", "".join(f"{one}\n" for one in troubles).encode()) if troubles else (200, "", b"ok\n")

    hanging: list[Deferred[None]] = []

    async def hang() -> None:
        hanging.append(Deferred())
        await hanging[-1]

    loop = process.loops.loop("claims", bound=5.0)
    loop.start(hang)
    service = Supervised(manager, look, process.clock, process.loops)
    service.startService()
    process.clock.pump([0.5] * 9)
    assert {"WATCHDOG": 1} in manager.told
    process.clock.pump([0.5] * 4)
    manager.told.clear()
    process.clock.pump([0.5] * 20)
    assert manager.told == []
    assert len(hanging) > 2
    loop.turned()
    process.clock.pump([0.5] * 4)
    assert {"WATCHDOG": 1} in manager.told
    assert {"STATUS": "ready"} in manager.told
    service.stopService()
    loop.stop()


@pytest_twisted.ensureDeferred
async def test_status_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine process goes on telling its parent how it is; also that one of its own loops broke."""
    ending: list[float] = []
    monkeypatch.setattr(processes.parent, "end_within", ending.append)  # Else it would end the process of the tests.
    words: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    ours, theirs = os.pipe()

    def write(line: str) -> None:
        words.append(line)
        if len(words) == 1:
            raise RuntimeError("nobody foresaw this")

    class Ending:
        """The reactor, which is not stopped."""

        def __getattr__(self, name: str) -> Any:
            return getattr(reactor, name)

        def stop(self) -> None:
            pass

    parent = ParentLink(Ending(), ours, write)
    try:
        parent.startService()
        await deferLater(reactor, SAYING + 0.5)
        parent.stopService()
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(theirs)
        await deferLater(reactor, 0.05)
        os.close(ours)
    assert ending == [WITHIN]
    assert len(words) >= 3
    told = [StatusMessage.from_fields(json.loads(word)) for word in words]
    assert ("loop_failed", "status messages") in told[1].counted
    assert told[1].troubles == (f"{LOOPS['status messages']} (status messages) failed, and has not succeeded since",)
    assert told[2].troubles == ()
