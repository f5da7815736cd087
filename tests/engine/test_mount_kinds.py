"""Mounts that differ from a disk and do no wrong by it; a mount to read from; one whose file system has died."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import State
from tests.engine.mounts import EMPTY, HUGE, LARGE, SMALL, MountRig, Move, Way, over
from tests.engine.outcome import There, lines
from tests.engine.rig import file, parts, place
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import mounted

MIB = 2**20
SIZES = (EMPTY, SMALL, LARGE, HUGE)
FEW = 10
UNKNOWN = tuple(
    Misbehaviour(operation, "ENOSYS")
    for operation in ("chmod", "utimens", "fsync", "fsyncdir", "flush", "link", "exclusive", "statfs", "ftruncate")
)


@asynccontextmanager
async def opened(directory: Path, **options: Any) -> AsyncIterator[MountRig]:
    with mounted(directory / "mount", **options) as mount:
        rig = await MountRig(reactor, directory, mount).open()
        try:
            yield rig
        finally:
            await rig.close()


@pytest.mark.parametrize(
    ("options", "row"),
    [
        # Numbers of files that the mount makes up: two names of one file have two.
        ({"use_ino": False}, ()),
        # What is read and written passes by the kernel's cache.
        ({"direct_io": True}, ()),
        # Looks that may be a second old, as most mounts have them.
        ({"attr_timeout": 1, "entry_timeout": 1, "negative_timeout": 1}, ()),
        # The kernel remembers for the whole mount that it need not ask.
        ({}, UNKNOWN),
    ],
    ids=["other-inodes", "direct", "cached", "unknown"],
)
@pytest_twisted.ensureDeferred
async def test_kinds(tmp_path: Path, options: dict[str, Any], row: tuple[Misbehaviour, ...]) -> None:
    """A file of any size arrives, at its first attempt, over another or not; what is to stay stays."""
    async with opened(tmp_path, **options) as rig:
        ended = await rig.run(over([row], SIZES, tuple(Way)))

        wrong = [
            outcome
            for move, outcome in ended
            if (outcome.state, outcome.attempt, outcome.there)
            != ((State.FAILED, 1, There.BEFORE) if move.way is Way.OTHER else (State.COMPLETED, 1, There.WHOLE))
        ]
        assert not wrong, lines(wrong)
        assert not parts(rig.mount.back)


@pytest.mark.parametrize(
    "room", [Misbehaviour("statfs", "ENOSYS"), Misbehaviour("statfs", "EPERM"), Misbehaviour("statfs")], ids=str
)
@pytest_twisted.ensureDeferred
async def test_room_not_known(tmp_path: Path, room: Misbehaviour) -> None:
    """A large file arrives where nobody knows how much room there is."""
    async with opened(tmp_path) as rig:
        ended = await rig.run([Move((room,), Way.NEW, 65 * MIB)])

        (outcome,) = ended.outcomes
        assert (outcome.state, outcome.there) == (State.COMPLETED, There.WHOLE), outcome


@pytest_twisted.ensureDeferred
async def test_reading(tmp_path: Path) -> None:
    """What cannot be read whole from a mount is never taken for moved, and nothing of it is there."""
    whole = {
        "close": Misbehaviour("flush", "EIO", path="close/*"),
        "once": Misbehaviour("read", "EIO", path="once/*", times=1),
        "release": Misbehaviour("release", "EIO", path="release/*"),
    }
    broken = {
        "unreadable": Misbehaviour("read", "EIO", path="unreadable/*"),
        "short": Misbehaviour("read", does=Does.HALF, path="short/*"),
        "empty": Misbehaviour("read", does=Does.NOTHING, path="empty/*"),
        "shut": Misbehaviour("open", "EACCES", path="shut/*"),
        "stale": Misbehaviour("read", "ESTALE", path="stale/*"),
        "gone": Misbehaviour("getattr", "ESTALE", path="gone/*"),
    }
    async with opened(tmp_path) as rig:
        for name in (*whole, *broken):
            (rig.mount.back / name).mkdir()
            for size in (SMALL, LARGE, HUGE):
                (rig.mount.back / name / f"{size}").write_bytes(rig.content(size))
        rig.mount.tell(*whole.values(), *broken.values())

        files = [
            file(place("mount", f"{name}/{size}"), "sources", f"{name}/{size}")
            for name in (*whole, *broken)
            for size in (SMALL, LARGE, HUGE)
        ]
        _, records = await rig.rig.moved(*files, max_attempts=2)

        for record in records:
            name, _, told = record.path.partition("/")
            target = rig.sources / record.path
            if name in whole:
                assert record.state is State.COMPLETED, record
                assert target.read_bytes() == rig.content(int(told))
            else:
                assert record.state is State.FAILED, record
                assert record.error is not None
                assert record.error["scope"] == "SOURCE"
                assert not target.exists()
        assert all(rig.mount.met())
        assert not parts(rig.sources)


@pytest_twisted.ensureDeferred
async def test_reading_what_tells_no_size(tmp_path: Path) -> None:
    """A file that a mount shows as empty and reads with content, as those that are made when they are read, arrives."""
    async with opened(tmp_path, direct_io=True) as rig:
        for size in (SMALL, LARGE):
            (rig.mount.back / f"{size}").write_bytes(rig.content(size))
        rig.mount.tell(Misbehaviour("getattr", path=f"{SMALL}"), Misbehaviour("getattr", path=f"{LARGE}"))

        files = [file(place("mount", f"{size}"), "sources", f"made/{size}") for size in (SMALL, LARGE)]
        job, records = await rig.rig.moved(*files, max_attempts=2)

        assert job.state is State.COMPLETED, records
        for size in (SMALL, LARGE):
            assert (rig.sources / f"made/{size}").read_bytes() == rig.content(size)


@pytest_twisted.ensureDeferred
async def test_stalled(tmp_path: Path) -> None:
    """A mount that does not answer holds up nobody else, and what goes there arrives when it does."""
    async with opened(tmp_path) as rig:
        rig.content(SMALL)
        rig.mount.stall()
        waiting = [
            await rig.rig.ask(file(place("sources", f"{SMALL}"), "mount", f"new/{number}")) for number in range(FEW)
        ]
        job, _ = await rig.rig.moved(file(place("sources", f"{SMALL}"), "sources", "elsewhere"))
        assert job.state is State.COMPLETED
        assert [(await rig.rig.store.job(number)).state.terminal for number in waiting] == [False] * FEW

        rig.mount.go_on()
        for number, waited in enumerate(waiting):
            assert (await rig.rig.ended(waited)).state is State.COMPLETED
            assert (rig.mount.back / f"new/{number}").read_bytes() == rig.content(SMALL)
        assert not parts(rig.mount.back)


@pytest_twisted.ensureDeferred
async def test_dead(tmp_path: Path) -> None:
    """Where the file system has died a job fails soon and says so; a mount in its stead is used without a restart."""
    async with opened(tmp_path) as rig:
        await rig.run([Move((), Way.NEW, SMALL)])
        rig.mount.kill()
        files = [file(place("sources", f"{SMALL}"), "mount", f"later/{number}") for number in range(3)]
        _, records = await rig.rig.moved(*files, max_attempts=2)

        for record in records:
            assert record.state is State.FAILED
            assert record.error is not None
            assert "not connected" in record.error["message"]

        rig.mount.stop()
        rig.mount.start()
        job, _ = await rig.rig.moved(*files, max_attempts=2)
        assert job.state is State.COMPLETED
        assert (rig.mount.back / "later/0").read_bytes() == rig.content(SMALL)
