"""Room that destinations keep free: what would not fit waits, says so, and starts when there is room."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.engine.room.survey import FRESH
from datamover.jobs.figures import FigureReader
from datamover.jobs.values import JobRecord, NewJob, Overwrite, State
from datamover.protocols.local.place import LocalPlace
from tests.engine.rig import PATIENCE, Rig, file, parts, random_bytes, url
from tests.protocols.toy import TOY
from tests.protocols.toy.store import STORES
from tests.servers.exchange import Exchange
from tests.servers.sshd import Sshd
from tests.servers.web import File, Web

MIB = 2**20
DISK = 64 * MIB
KEEP = 24 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB with nothing on it, of which 24 MiB are to stay free."""
    at = tmp_path / "disk"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", at], check=True)
    yield at
    subprocess.run(["umount", at], check=True)


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, disk: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": disk.as_uri(), "keep_free": KEEP}})
    yield rig
    await rig.close()


class Gated:
    """A file of which the second half is sent when a test lets it go."""

    def __init__(self, content: bytes, *, told: bool = True) -> None:
        self.content = content
        self._told = told
        self.open = False
        self.asked = 0

    async def __call__(self, exchange: Exchange) -> None:
        length = ("Content-Length", str(len(self.content))) if self._told else ("Connection", "close")
        exchange.write(exchange.head(200, [length, ("ETag", '"1"')]))
        self.asked += 1
        half = len(self.content) // 2
        exchange.write(self.content[:half])
        while not self.open and not exchange.gone:
            await exchange.pause(0.01)
        exchange.write(self.content[half:])
        if not self._told:
            exchange.close()


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def fill(disk: Path, size: int) -> Path:
    """Have another program use some of the disk."""
    filler = disk / "filler"
    filler.write_bytes(bytes(size))
    return filler


def enlarge(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def taken_away(disk: Path, names: str) -> int:
    """Remove files, as somebody does who has used them; return their number."""
    found = list(disk.glob(names))
    for path in found:
        path.unlink()
    return len(found)


async def became(rig: Rig, job: int, wanted: Callable[[JobRecord], Any]) -> JobRecord:
    """Wait until a job is as wanted."""
    deadline = reactor.seconds() + PATIENCE
    while True:
        record = await rig.store.job(job)
        if wanted(record):
            return record
        assert reactor.seconds() < deadline, f"{record}"
        await deferLater(reactor, 0.01)


async def some_moved(rig: Rig, jobs: Sequence[int], number: int) -> list[int]:
    """Wait until so many jobs have moved; return them. Which they are is for the order in which they ask."""
    deadline = reactor.seconds() + PATIENCE
    while len(moved := [job for job in jobs if (await rig.store.job(job)).state is State.COMPLETED]) < number:
        assert reactor.seconds() < deadline, f"{moved} moved"
        await deferLater(reactor, 0.01)
    assert len(moved) == number
    return moved


def waits(record: JobRecord) -> bool:
    return "room for" in (record.waiting_for or "")


async def failures(rig: Rig, job: int) -> list[int]:
    rows = await rig.database.fetch("SELECT failures FROM transfers WHERE job = %(job)s", {"job": job})
    return [row["failures"] for row in rows]


@pytest_twisted.ensureDeferred
async def test_waits_and_goes_on(rig: Rig, web: Web, disk: Path) -> None:
    """A file that would not fit waits with the numbers told, uses up no attempt, and moves once there is room."""
    content = random_bytes(30 * MIB)
    web.route("/f", File(content, etag='"1"'))
    filler = fill(disk, 20 * MIB)
    await rig.engine()

    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=1)
    told = await became(rig, job, waits)

    assert told.waiting_for == (
        f"destination archive: room for {30 * MIB} bytes: {44 * MIB} are free, keep_free is {KEEP}"
    )
    assert told.next_retry_at is None
    assert (await rig.store.files(job))[0].next_retry_at is None
    assert await rig.store.active() == []
    assert await failures(rig, job) == [0]
    assert not parts(disk)
    filler.unlink()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert (disk / "f").read_bytes() == content
    assert await rig.kinds(job) == ["submitted", "started", "started", "completed", "completed"]


@pytest_twisted.ensureDeferred
async def test_all_of_it_may_be_used(rig: Rig, web: Web, disk: Path) -> None:
    """A file that leaves exactly what is to stay free is moved; one byte more is not."""
    taken = free(disk) - KEEP
    web.route("/more", File(random_bytes(taken + 1), etag='"1"'))
    web.route("/f", File(random_bytes(taken), etag='"1"'))
    await rig.engine()

    more = await rig.ask(file(url(f"{web.url}/more"), "archive", "more"))
    await became(rig, more, waits)
    await rig.store.cancel(more)
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"))

    assert job.state is State.COMPLETED
    assert free(disk) == KEEP


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("nodes", [1, 2])
async def test_racing(rig: Rig, web: Web, disk: Path, nodes: int) -> None:
    """Of files that are submitted together, on one node or two, as many move at a time as fit."""
    gates = [Gated(random_bytes(15 * MIB)) for _ in range(6)]
    for number, gate in enumerate(gates):
        web.route(f"/{number}", gate)
    for _ in range(nodes):
        await rig.engine(max_active=3)
    submitted = await rig.store.submit(
        [
            NewJob(owner="tester", files=(file(url(f"{web.url}/{number}"), "archive", str(number)),))
            for number in range(6)
        ]
    )

    async def standing() -> tuple[int, int]:
        records = [await rig.store.job(one.id) for one in submitted]
        return len(await rig.store.active()), sum(map(waits, records))

    deadline = reactor.seconds() + PATIENCE
    while await standing() != (2, 4):
        assert reactor.seconds() < deadline, await standing()
        await deferLater(reactor, 0.02)
    for gate in gates:
        gate.open = True
    deadline, arrived = reactor.seconds() + PATIENCE, 0
    while arrived < 6:
        assert reactor.seconds() < deadline
        assert free(disk) >= KEEP
        arrived += taken_away(disk, "[0-9]")
        await deferLater(reactor, 0.002)
    for one in submitted:
        assert (await rig.ended(one.id)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_small_ones_go_past(rig: Rig, web: Web, disk: Path) -> None:
    """Small files go past a large one that waits, as long as they leave it half of the room; so it gets its turn."""
    large, small = random_bytes(36 * MIB), random_bytes(3 * MIB)
    web.route("/large", File(large, etag='"1"'))
    web.route("/small", File(small, etag='"1"'))
    filler = fill(disk, 16 * MIB)
    await rig.engine()
    waiting = await rig.ask(file(url(f"{web.url}/large"), "archive", "large"))
    await became(rig, waiting, waits)

    jobs = [await rig.ask(file(url(f"{web.url}/small"), "archive", f"small-{n}")) for n in range(8)]
    moved = await some_moved(rig, jobs, 4)
    told = [await became(rig, job, waits) for job in jobs if job not in moved]

    assert "half of what is left is for the file that has waited longest" in str(told[0].waiting_for)
    filler.unlink()
    assert taken_away(disk, "small-*") == 4
    assert (await rig.ended(waiting)).state is State.COMPLETED
    (disk / "large").unlink()
    for job in jobs:
        assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_priority(rig: Rig, web: Web, disk: Path) -> None:
    """Of files that fit, those of the higher priority go first, past a large one of the highest that does not fit."""
    web.route("/large", File(random_bytes(36 * MIB), etag='"1"'))
    web.route("/small", File(random_bytes(3 * MIB), etag='"1"'))
    filler = fill(disk, 16 * MIB)
    engine = await rig.engine(max_active=1)
    waiting = await rig.ask(file(url(f"{web.url}/large"), "archive", "large"), priority=5)
    await became(rig, waiting, waits)
    rig.engines.remove(engine)
    await engine.stop()
    jobs = [
        await rig.ask(file(url(f"{web.url}/small"), "archive", f"small-{n}"), priority=(1, 4)[n % 2]) for n in range(8)
    ]
    # Nobody else asks for the room: what is asked while a file is written counts that file twice for a moment.
    engine = await rig.engine(max_active=1, room_interval=3600.0)

    assert sorted(await some_moved(rig, jobs, 4)) == jobs[1::2]
    for job in jobs[::2]:
        await became(rig, job, waits)
    rig.engines.remove(engine)
    await engine.stop()
    await rig.engine(max_active=1)
    filler.unlink()
    assert taken_away(disk, "small-*") == 4
    assert (await rig.ended(waiting)).state is State.COMPLETED
    (disk / "large").unlink()
    for job in jobs:
        assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [38 * MIB, 39 * MIB + 4097])
async def test_unknown_size_that_fits(rig: Rig, web: Web, disk: Path, size: int) -> None:
    """A file whose source tells no size is moved as long as it leaves what is to stay free."""
    web.route("/f", File(random_bytes(size), etag='"1"', until_close=True))
    await rig.engine()

    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"))

    assert job.state is State.COMPLETED
    assert (disk / "f").stat().st_size == size


@pytest_twisted.ensureDeferred
async def test_unknown_size_that_grows(rig: Rig, web: Web, disk: Path) -> None:
    """A file that grows past the room stops with NO_SPACE before what is to stay free, and goes on from there."""
    content = random_bytes(50 * MIB)
    served = File(content, etag='"1"', chunked=True)
    web.route("/f", served)
    await rig.engine()

    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    record = await became(rig, job, lambda record: record.error is not None or waits(record))

    assert record.first_error is not None
    assert record.first_error["code"] == "NO_SPACE"
    assert f"keep_free, {KEEP} bytes" in record.first_error["message"]
    assert KEEP <= free(disk) < KEEP + 2 * MIB
    [part] = parts(disk)
    assert part.stat().st_size >= 38 * MIB
    await became(rig, job, waits)
    enlarge(disk, DISK + 16 * MIB)
    assert (await rig.ended(job)).state is State.COMPLETED
    assert (disk / "f").read_bytes() == content
    assert "resumed" in await rig.kinds(job)


@pytest_twisted.ensureDeferred
async def test_unknown_size_in_steps(rig: Rig, web: Web, disk: Path) -> None:
    """A file of unknown size reserves a step after the other, so that others begin beside it."""
    enlarge(disk, 320 * MIB)
    gate = Gated(random_bytes(200 * MIB), told=False)
    web.route("/f", gate)
    web.route("/other", File(random_bytes(100 * MIB), etag='"1"'))
    await rig.engine()

    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await became(rig, job, lambda record: record.bytes_done >= 90 * MIB)
    other, _ = await rig.moved(file(url(f"{web.url}/other"), "archive", "other"))
    assert other.state is State.COMPLETED
    gate.open = True
    record = await became(rig, job, lambda record: record.error is not None or record.state.terminal)

    assert record.error is not None
    assert record.error["code"] == "NO_SPACE"
    assert free(disk) >= KEEP


@pytest_twisted.ensureDeferred
async def test_archive(rig: Rig, web: Web, disk: Path) -> None:
    """An archive waits, before its files are fetched, until there is room for all of it."""
    for name in "ab":
        web.route(f"/{name}", File(random_bytes(12 * MIB), etag='"1"'))
    filler = fill(disk, 20 * MIB)
    await rig.engine()

    files = [file(url(f"{web.url}/{name}"), "archive", "all.zip") for name in "ab"]
    job = await rig.ask(*files, archive="zip")
    record = await became(rig, job, waits)

    assert f"room for {24 * MIB} bytes" in str(record.waiting_for)
    assert all(request.method == "HEAD" for name in "ab" for request in web.asked(f"/{name}"))
    filler.unlink()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert (disk / "all.zip").stat().st_size > 24 * MIB


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("at_once", ["cancel", "deadline"])
async def test_ended_while_it_waits(rig: Rig, web: Web, disk: Path, at_once: str) -> None:
    """What waits is cancelled at once, and ends at its deadline, with nothing left of it."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    fill(disk, 20 * MIB)
    await rig.engine()
    deadline = {"deadline": 2.0} if at_once == "deadline" else {}
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"), **deadline)
    await became(rig, job, lambda record: waits(record) or record.state.terminal)

    if at_once == "cancel":
        assert (await rig.store.cancel(job)).state is State.CANCELLED
    else:
        record = await rig.ended(job)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "DEADLINE_EXCEEDED")
    assert os.listdir(disk) == ["filler"]


@pytest_twisted.ensureDeferred
async def test_paused_while_it_waits(rig: Rig, web: Web, disk: Path) -> None:
    """A job that is paused while it waits stays paused when there is room, and saves no room from others."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    web.route("/other", File(random_bytes(15 * MIB), etag='"1"'))
    filler = fill(disk, 20 * MIB)
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await became(rig, job, waits)

    paused = await rig.store.pause(job)
    assert paused.waiting_for == "jobs.resume: the job is paused"
    other, _ = await rig.moved(file(url(f"{web.url}/other"), "archive", "other"))
    assert other.state is State.COMPLETED
    filler.unlink()
    (disk / "other").unlink()
    await deferLater(reactor, 0.5)  # Longer than the engine takes to ask for room.
    assert (await rig.store.job(job)).waiting_for == "jobs.resume: the job is paused"
    await rig.store.resume(job)
    assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_engine_stops_while_it_waits(rig: Rig, web: Web, disk: Path) -> None:
    """What waits needs no process to wait with it: another one that starts later wakes it."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    filler = fill(disk, 20 * MIB)
    first = await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await became(rig, job, waits)

    rig.engines.remove(first)
    await first.stop()
    filler.unlink()
    await rig.engine()

    assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_reservation_of_a_dead_node(rig: Rig, web: Web, disk: Path) -> None:
    """What a node had reserved that died is free again when its leases run out."""
    gate = Gated(random_bytes(30 * MIB))
    web.route("/gated", gate)
    web.route("/f", File(random_bytes(25 * MIB), etag='"1"'))
    dead = await rig.engine(lease=1.5)
    stuck = await rig.ask(file(url(f"{web.url}/gated"), "archive", "gated"))
    await became(rig, stuck, lambda record: record.bytes_done >= 15 * MIB)
    rig.engines.remove(dead)
    dead.dispatcher._leases.stop()  # It hangs: nothing is renewed or released any more.
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await rig.store.cancel(stuck)
    await rig.engine()

    assert (await rig.ended(job)).state is State.COMPLETED
    await dead.stop()


@pytest_twisted.ensureDeferred
async def test_one_question_for_all(rig: Rig, web: Web, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, a destination is asked for its room once in an interval, over all nodes."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    fill(disk, 20 * MIB)
    asked: list[float] = []
    place: Any = rig.registry.get("archive").pool
    statvfs = os.statvfs

    def counted(path: Any) -> os.statvfs_result:
        if Path(path) == disk:
            asked.append(reactor.seconds())
        return statvfs(path)

    for _ in range(2):
        await rig.engine(room_interval=1.0)
    jobs = [await rig.ask(file(url(f"{web.url}/f"), "archive", f"f{n}")) for n in range(20)]
    for job in jobs:
        await became(rig, job, waits)
    assert place is not None
    monkeypatch.setattr(os, "statvfs", counted)
    deadline = reactor.seconds() + PATIENCE
    while len(asked) < 3:
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.01)

    assert asked[2] - asked[0] > 1.5, "two intervals, less what the answers take"


@pytest_twisted.ensureDeferred
async def test_same_target_in_order(rig: Rig, web: Web, disk: Path) -> None:
    """A younger job with the same target does not go past one that waits for room."""
    web.route("/old", File(random_bytes(30 * MIB), etag='"1"'))
    web.route("/new", File(b"new", etag='"1"'))
    filler = fill(disk, 20 * MIB)
    await rig.engine()
    older = await rig.ask(file(url(f"{web.url}/old"), "archive", "f"), overwrite=Overwrite.ALWAYS)
    await became(rig, older, waits)

    younger = await rig.ask(file(url(f"{web.url}/new"), "archive", "f"), overwrite=Overwrite.ALWAYS)
    await became(rig, younger, lambda record: record.waiting_for == f"job {older}, which has the same target")
    filler.unlink()
    for job in (older, younger):
        assert (await rig.ended(job)).state is State.COMPLETED
    assert (disk / "f").read_bytes() == b"new"


@pytest_twisted.ensureDeferred
async def test_already_there(rig: Rig, web: Web, disk: Path) -> None:
    """A file that is at a full destination already needs no room."""
    content = random_bytes(4 * MIB)
    (disk / "f").write_bytes(content)
    fill(disk, 40 * MIB)
    web.route("/f", File(content, etag='"1"'))
    await rig.engine()

    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f", size=len(content)))

    assert job.state is State.COMPLETED
    assert "already_there" in await rig.kinds(job.id)


@pytest_twisted.ensureDeferred
async def test_reload(rig: Rig, web: Web, disk: Path) -> None:
    """What waits goes on once the configuration keeps less free, or nothing."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    web.route("/g", File(random_bytes(20 * MIB), etag='"1"'))
    fill(disk, 2 * MIB)
    await rig.engine()
    await rig.moved(file(url(f"{web.url}/f"), "archive", "f"))
    job = await rig.ask(file(url(f"{web.url}/g"), "archive", "g"))
    await became(rig, job, waits)

    rig.reload({"archive": {"url": disk.as_uri(), "keep_free": "12MB"}})
    assert (await rig.ended(job)).state is State.COMPLETED

    third = await rig.ask(file(url(f"{web.url}/f"), "archive", "third"))
    await became(rig, third, waits)
    (disk / "f").unlink()
    rig.reload({"archive": {"url": disk.as_uri()}})
    assert (await rig.ended(third)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_resume_tries_at_once(rig: Rig, web: Web, disk: Path) -> None:
    """Who has made room may have a job tried at once."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    filler = fill(disk, 20 * MIB)
    await rig.engine(room_interval=3600.0)
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await became(rig, job, waits)

    filler.unlink()
    await deferLater(reactor, FRESH)  # What was told before that is used no more.
    await rig.store.resume(job)

    assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_figures(rig: Rig, web: Web, disk: Path) -> None:
    """What waits for room is counted with what waits, and by itself."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    fill(disk, 20 * MIB)
    await rig.engine()
    for number in range(3):
        job = await rig.ask(file(url(f"{web.url}/f"), "archive", str(number)))
        await became(rig, job, waits)

    figures = await FigureReader(rig.database, 30.0).read()

    assert figures.without_room == {"archive": 3}
    assert figures.pending == {"archive": 3}
    assert figures.age["archive"] >= 0
    assert await rig.store.free() == {"archive": 44 * MIB}


@pytest_twisted.ensureDeferred
async def test_untold(tmp_path: Path, web: Web) -> None:
    """Where a place does not tell its room files move, and each says that nothing could be kept free."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    STORES.clear()
    web.route("/f", File(b"content", etag='"1"'))
    rig = await Rig(reactor, tmp_path).open(
        {"toy": {"url": "toy://store/bucket", "access_key": "me", "seal_file": str(secret), "keep_free": "1PB"}},
        protocols=[TOY],
    )
    STORES["store"].keys["me"] = "s3cret"
    try:
        await rig.engine()
        job, _ = await rig.moved(file(url(f"{web.url}/f"), "toy", "f"))
        assert job.state is State.COMPLETED
        [event] = [event for event in await rig.store.events(job=job.id) if event.kind == "without"]
        message = "free room not known: toy destinations do not tell it, so that keep_free cannot be held"
        assert {"ability": "free-space", "message": message} in event.details["without"]
        told = rig.registry.describe("toy")
        assert {"ability": "free-space", "message": message} in told["lacks"]
        assert told["keep_free"] == 1e15
    finally:
        await rig.close()


@pytest_twisted.ensureDeferred
async def test_over_sftp(tmp_path: Path, web: Web, disk: Path) -> None:
    """A server's room is asked for over SFTP; what would not fit waits until there is some."""
    server = Sshd(tmp_path)
    server.start()
    server.root.rmdir()
    server.root.symlink_to(disk)
    content = random_bytes(30 * MIB)
    web.route("/f", File(content, etag='"1"'))
    filler = fill(disk, 20 * MIB)
    table = {
        "url": server.url,
        "private_key_file": str(server.private_key),
        "known_hosts_file": str(server.known_hosts),
        "keep_free": KEEP,
    }
    rig = await Rig(reactor, tmp_path).open({"server": table})
    try:
        await rig.engine()
        job = await rig.ask(file(url(f"{web.url}/f"), "server", "f"))
        told = await became(rig, job, waits)
        assert f"{44 * MIB} are free, keep_free is {KEEP}" in str(told.waiting_for)
        tested = await rig.registry.test("server")
        assert (tested["ok"], tested["free"], tested["keep_free"]) == (True, 44 * MIB, KEEP)
        filler.unlink()
        assert (await rig.ended(job)).state is State.COMPLETED
        assert (disk / "f").read_bytes() == content
    finally:
        await rig.close()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_destination_that_goes_away(tmp_path: Path, web: Web, disk: Path) -> None:
    """What waits at a destination that cannot be asked any more says why, as what fails there does."""
    server = Sshd(tmp_path)
    server.start()
    server.root.rmdir()
    server.root.symlink_to(disk)
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    fill(disk, 20 * MIB)
    table = {
        "url": server.url,
        "private_key_file": str(server.private_key),
        "known_hosts_file": str(server.known_hosts),
        "keep_free": KEEP,
    }
    rig = await Rig(reactor, tmp_path).open({"server": table})
    try:
        await rig.engine()
        job = await rig.ask(file(url(f"{web.url}/f"), "server", "f"))
        await became(rig, job, waits)
        server.stop()
        record = await became(rig, job, lambda record: record.error)
        assert record.error is not None
        assert record.error["code"] in ("CONNECT_FAILED", "CONNECTION_LOST")
        await rig.store.cancel(job)
        await rig.ended(job)
    finally:
        await rig.close()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_unknown_size_that_cannot_go_on(rig: Rig, web: Web, disk: Path) -> None:
    """A file that grows past the room, and could not be gone on with, leaves nothing."""
    web.route("/f", File(random_bytes(50 * MIB), until_close=True))
    await rig.engine()

    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), max_attempts=1)

    assert job.error is not None
    assert (job.state, job.error["code"]) == (State.FAILED, "NO_SPACE")
    assert not os.listdir(disk)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("counts", [True, False])
async def test_what_a_place_counts(
    rig: Rig, web: Web, disk: Path, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that counts a file as used only when it is committed needs room for all of it until then."""
    enlarge(disk, 400 * MIB)

    async def told(place: LocalPlace) -> int:
        return 320 * MIB

    monkeypatch.setattr(LocalPlace, "free", told)  # Whenever it is asked.
    known = rig.registry._destinations
    known["archive"] = replace(known["archive"], counts_arriving=counts)
    gate = Gated(random_bytes(200 * MIB))
    web.route("/gated", gate)
    web.route("/f", File(random_bytes(110 * MIB), etag='"1"'))
    await rig.engine()
    moving = await rig.ask(file(url(f"{web.url}/gated"), "archive", "gated"))
    await became(rig, moving, lambda record: record.bytes_done >= 100 * MIB)

    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await became(rig, job, (lambda record: record.state.terminal) if counts else waits)
    gate.open = True

    for one in (moving, job):
        assert (await rig.ended(one)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_told_no_more(rig: Rig, web: Web, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits moves when a place tells its room no more, and the destination says that nothing is kept free."""
    web.route("/f", File(random_bytes(30 * MIB), etag='"1"'))
    fill(disk, 20 * MIB)
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"))
    await became(rig, job, waits)

    async def untold(place: LocalPlace) -> None:
        return None

    with monkeypatch.context() as patched:
        patched.setattr(LocalPlace, "free", untold)
        assert (await rig.ended(job)).state is State.COMPLETED
        message = "free room not known: the other side does not tell it, so that keep_free cannot be held"
        [lack] = rig.registry.describe("archive")["lacks"]
        assert lack == {"ability": "free-space", "message": message}
        [event] = [event for event in await rig.store.events(job=job) if event.kind == "without"]
        assert lack in event.details["without"]
    tested = await rig.registry.test("archive")
    assert (tested["lacks"], tested["free"]) == ([], 14 * MIB)
