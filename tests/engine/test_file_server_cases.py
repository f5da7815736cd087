"""What servers were met to do: each alone, as it was reported."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

import pytest
import pytest_twisted

from datamover.jobs.values import Overwrite, State
from tests.engine.rig import file, parts, place
from tests.engine.there import Between, between
from tests.servers.proftpd import Proftpd
from tests.servers.rclone import DEBIANS, Rclone
from tests.servers.ssh import SshServer
from tests.servers.sshd import SFTP_SERVER, Sshd
from tests.servers.wayward.misbehaviour import (
    CLOSE,
    EXTENSIONS,
    FSETSTAT,
    FSTAT,
    LSTAT,
    OP_UNSUPPORTED,
    OPEN,
    PERMISSION_DENIED,
    READ,
    RENAME,
    SETSTAT,
    STAT,
    Misbehaviour,
)
from tests.servers.wayward.misbehaviour import Way as Does
from tests.servers.wayward.server import Wayward

SMALL, LARGE = 3000, 3_000_000
GREETING = "Welcome to the cluster"
"""What a shell's start-up file writes."""
UNSUPPORTED = tuple(Misbehaviour(request, code=OP_UNSUPPORTED, words="unsupported") for request in (SETSTAT, FSETSTAT))


@contextmanager
def running(server: SshServer) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@pytest.fixture(scope="module")
def started() -> Iterator[Wayward]:
    """One for all cases: to start one takes longer than most of them."""
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    directory.chmod(0o755)
    server = Wayward(directory)
    with running(server):
        yield server
    rmtree(directory)


@pytest.fixture
def wayward(started: Wayward) -> Wayward:
    """A server that behaves so far, with nothing below its root."""
    started.misbehave()
    started.announce(started.user, without=())
    for left in started.root.iterdir():
        rmtree(left) if left.is_dir() else left.unlink()
    return started


@pytest.mark.parametrize("overwrite", [Overwrite.NEVER, Overwrite.ALWAYS])
@pytest_twisted.ensureDeferred
async def test_hard_link_that_does_nothing(tmp_path: Path, open_directory: Path, overwrite: Overwrite) -> None:
    """A server that says OK to a hard link and makes none, as rclone of 2022, is given files all the same."""
    server = Rclone(open_directory, program=DEBIANS)
    with running(server):
        async with between(tmp_path, server) as ends:
            for size in (SMALL, 70_000, LARGE):
                ends.made(ends.here, f"{size}", size)
            job, _ = await ends.rig.moved(
                *(file(place("here", f"{size}"), "there", f"{size}") for size in (SMALL, 70_000, LARGE)),
                overwrite=overwrite,
            )
            assert job.state is State.COMPLETED
            assert all(_same(ends, f"{size}") for size in (SMALL, 70_000, LARGE))
            assert not parts(ends.there)


@pytest.mark.parametrize("which", ["OpenSSH", "ProFTPD", "unsupported"])
@pytest_twisted.ensureDeferred
async def test_attributes_that_cannot_be_set(tmp_path: Path, open_directory: Path, which: str) -> None:
    """Files arrive where mode or time cannot be set; each tells what it went without, and so does the destination."""
    server: SshServer = Wayward(open_directory)
    if which == "OpenSSH":
        server = Sshd(open_directory / which, config=f"Subsystem sftp {SFTP_SERVER} -P setstat,fsetstat")
    elif which == "ProFTPD":
        server = Proftpd(open_directory / which, config="<Limit SITE_CHMOD>\nDenyAll\n</Limit>")
    with running(server):
        if isinstance(server, Wayward):
            server.misbehave(*UNSUPPORTED)
        async with between(tmp_path, server) as ends:
            for size in (SMALL, LARGE):
                ends.made(ends.here, f"{size}", size)
                os.utime(ends.here / f"{size}", (1_500_000_000, 1_500_000_000))
            for size in (SMALL, LARGE):
                job, _ = await ends.rig.moved(file(place("here", f"{size}"), "there", f"new/{size}"))
                assert job.state is State.COMPLETED, job.error
                assert _same(ends, f"{size}", "new")
                told = await ends.went_without(job.id)
                assert ("set-modified" in told) is ((ends.there / f"new/{size}").stat().st_mtime != 1_500_000_000)
                assert all("the server refuses it: " in why for why in told.values())
            assert (await ends.rig.registry.test("there"))["ok"]
            lacks = {lack["ability"] for lack in ends.rig.registry.describe("there")["lacks"]}
            assert "set-mode" in lacks
            assert ("set-modified" in lacks) is (which != "ProFTPD")


@pytest_twisted.ensureDeferred
async def test_replacing_without_attributes(tmp_path: Path, wayward: Wayward) -> None:
    """A server that renames onto nothing alone, and sets no attributes by a name, has its files replaced."""
    wayward.misbehave(Misbehaviour(SETSTAT, code=OP_UNSUPPORTED))
    wayward.announce(wayward.user, without=EXTENSIONS)
    async with between(tmp_path, wayward) as ends:
        for size in (SMALL, LARGE):
            ends.made(ends.here, f"{size}", size)
            (ends.there / f"{size}").write_bytes(b"old")
            job, _ = await ends.rig.moved(
                file(place("here", f"{size}"), "there", f"{size}"), overwrite=Overwrite.ALWAYS
            )
            assert job.state is State.COMPLETED
            assert _same(ends, f"{size}")
        assert sorted(os.listdir(ends.there)) == sorted(f"{size}" for size in (SMALL, LARGE))


@pytest.mark.parametrize(
    "wrong",
    [
        (Misbehaviour(READ, Does.EMPTY_AT_END),),
        (Misbehaviour(READ, Does.SHORT, amount=1000),),
        (Misbehaviour(FSTAT, code=OP_UNSUPPORTED),),
        (Misbehaviour(LSTAT, code=OP_UNSUPPORTED),),
        tuple(Misbehaviour(look, Does.NO_SIZE) for look in (STAT, LSTAT, FSTAT)),
        (*(Misbehaviour(look, Does.NO_SIZE) for look in (STAT, LSTAT, FSTAT)), Misbehaviour(READ, Does.EMPTY_AT_END)),
        tuple(Misbehaviour(look, Does.NO_TIMES) for look in (STAT, LSTAT, FSTAT)),
        tuple(Misbehaviour(look, Does.NO_MODE) for look in (STAT, LSTAT, FSTAT)),
        tuple(Misbehaviour(look, Does.TELLS) for look in (STAT, LSTAT, FSTAT)),
        tuple(Misbehaviour(look, code=OP_UNSUPPORTED) for look in (STAT, LSTAT, FSTAT)),
        (Misbehaviour(CLOSE, code=PERMISSION_DENIED),),
    ],
    ids=lambda wrong: "+".join(map(str, wrong)),
)
@pytest_twisted.ensureDeferred
async def test_reading(tmp_path: Path, wayward: Wayward, wrong: tuple[Misbehaviour, ...]) -> None:
    """A file is read whole whatever its server says of it, and however its end is told."""
    wayward.misbehave(*wrong)
    async with between(tmp_path, wayward) as ends:
        for size in (0, SMALL, LARGE):
            ends.made(ends.there, f"{size}", size)
        job, files = await ends.rig.moved(
            *(file(place("there", f"{size}"), "here", f"{size}") for size in (0, SMALL, LARGE))
        )
        assert job.state is State.COMPLETED, [one.error for one in files]
        assert all(_same(ends, f"{size}") for size in (0, SMALL, LARGE))


@pytest.mark.parametrize(
    ("wrong", "codes"),
    [
        ((Misbehaviour(OPEN, code=PERMISSION_DENIED, words="no reading"),), {"SOURCE_FORBIDDEN"}),
        ((Misbehaviour(READ, words="no reading"),), {"SERVER_ERROR"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_reading_refused(
    tmp_path: Path, wayward: Wayward, wrong: tuple[Misbehaviour, ...], codes: set[str]
) -> None:
    """A file that cannot be read fails in the server's words."""
    wayward.misbehave(*wrong)
    async with between(tmp_path, wayward) as ends:
        ends.made(ends.there, "file", SMALL)
        job, _ = await ends.rig.moved(file(place("there", "file"), "here", "file"), max_attempts=2)
        assert job.state is State.FAILED
        assert job.error is not None
        assert job.error["code"] in codes
        assert "no reading" in job.error["message"]
        assert not os.listdir(ends.here)


@pytest.mark.parametrize("which", ["OpenSSH", "other"])
@pytest_twisted.ensureDeferred
async def test_shell_says_hello(tmp_path: Path, open_directory: Path, which: str) -> None:
    """Text that is written before SFTP begins is what the job says, with what to do."""
    script = open_directory / "greeting-sftp"
    script.write_text(f'#!/bin/sh\necho "{GREETING}"\nexec {SFTP_SERVER}\n')
    script.chmod(0o755)
    server = Sshd(open_directory, config=f"Subsystem sftp {script}") if which == "OpenSSH" else Wayward(open_directory)
    with running(server):
        if isinstance(server, Wayward):
            server.greet(f"{GREETING}\n")
        async with between(tmp_path, server) as ends:
            ends.made(ends.here, "file", SMALL)
            job, _ = await ends.rig.moved(file(place("here", "file"), "there", "file"), max_attempts=2)
            assert job.state is State.FAILED
            assert job.error is not None
            assert GREETING in job.error["full"]
            assert not os.listdir(ends.there)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("when", "source", "target"),
    [
        (datetime(1965, 1, 2, tzinfo=UTC), "here", "there"),
        (datetime(2120, 1, 2, tzinfo=UTC), "here", "there"),
        # From 2106 on a server tells a time that is as good as any.
        (datetime(1965, 1, 2, tzinfo=UTC), "there", "here"),
        (datetime(2050, 1, 2, tzinfo=UTC), "there", "here"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_times_that_cannot_be_said(
    tmp_path: Path, open_directory: Path, when: datetime, source: str, target: str, size: int
) -> None:
    """A time that SFTP has no word for is none, which is told; never another one."""
    server = Sshd(open_directory)
    with running(server):
        async with between(tmp_path, server) as ends:
            roots = {"here": ends.here, "there": ends.there}
            ends.made(roots[source], "file", size)
            os.utime(roots[source] / "file", (when.timestamp(), when.timestamp()))
            started = datetime.now(UTC).timestamp()
            job, _ = await ends.rig.moved(file(place(source, "file"), target, "new/file"))
            assert job.state is State.COMPLETED
            found = (roots[target] / "new/file").stat().st_mtime
            if found != when.timestamp():
                assert found >= started - 2
                assert "set-modified" in await ends.went_without(job.id)


@pytest.mark.parametrize("overwrite", [Overwrite.NEVER, Overwrite.ALWAYS])
@pytest_twisted.ensureDeferred
async def test_close_that_fails(tmp_path: Path, wayward: Wayward, overwrite: Overwrite) -> None:
    """What a gateway refuses when a file is closed is what the job says, and nothing is there."""
    said = "upload to the bucket failed: quota exceeded"
    wayward.misbehave(Misbehaviour(OPEN, Does.AT_CLOSE), Misbehaviour(CLOSE, words=said, having="writing"))
    async with between(tmp_path, wayward) as ends:
        for size in (SMALL, 70_000, 1_000_000, LARGE):
            ends.made(ends.here, f"{size}", size)
            job, _ = await ends.rig.moved(
                file(place("here", f"{size}"), "there", f"{size}"), overwrite=overwrite, max_attempts=2
            )
            assert job.state is State.FAILED
            assert job.error is not None
            assert job.error["code"] == "QUOTA_EXCEEDED"
        assert not os.listdir(ends.there)


@pytest.mark.parametrize("wrong", [FSETSTAT, CLOSE, RENAME])
@pytest_twisted.ensureDeferred
async def test_no_answer(tmp_path: Path, wayward: Wayward, wrong: str) -> None:
    """A server that never answers a request is told to have stalled, in the time that the configuration gives."""
    having = "writing" if wrong == CLOSE else None
    wayward.misbehave(Misbehaviour(wrong, Does.HANGS, having=having))
    wayward.announce(wayward.user, without=EXTENSIONS)
    async with between(tmp_path, wayward, transfers={"idle_timeout": "500ms"}) as ends:
        for size in (SMALL, LARGE):
            ends.made(ends.here, f"{size}", size)
            job, _ = await ends.rig.moved(file(place("here", f"{size}"), "there", f"{size}"), max_attempts=2)
            assert job.state is State.FAILED
            assert job.error is not None
            assert job.error["code"] == "STALLED"
            assert not (ends.there / f"{size}").exists()


def _same(ends: Between, name: str, below: str = "") -> bool:
    """Tell whether a file is the same at both ends."""
    ours, theirs = ends.here / name, ends.there / below / name
    return theirs.is_file() and ours.read_bytes() == theirs.read_bytes()
