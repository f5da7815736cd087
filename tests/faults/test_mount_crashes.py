"""Engines that are killed amid the steps by which a file gets its name, on mounts with and without hard links.

The mount itself kills whoever asks for an operation, right after it has done it: each crash leaves what that operation
left. As often as an engine dies, another goes on, which dies of the next file.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.engine.outcome import There, look
from tests.faults.cluster import Cluster, Engine, running
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import Mount, mounted
from tests.waiting import wait_until

SMALL, LARGE = 3_000, 300_000
NO_LINKS = (Misbehaviour("link", "EPERM"), Misbehaviour("exclusive", "EINVAL"))


@dataclass(frozen=True, slots=True)
class Crash:
    """One file, and the operation after which its engine dies."""

    operation: str
    size: int
    replaces: bool
    """Something is under its name, to be replaced; else nothing is, and nothing would be replaced."""
    links: bool = True
    """The mount knows hard links."""

    @property
    def path(self) -> str:
        """Where it goes, below its own directory."""
        return "file" if self.replaces else "new/file"

    @property
    def before(self) -> bytes | None:
        return b"old" if self.replaces else None

    def misbehaviours(self, directory: str) -> tuple[Misbehaviour, ...]:
        # A directory is flushed under its own name, for the names in it.
        below = f"{directory}/{self.path}".rpartition("/")[0] + ("" if self.operation == "fsyncdir" else "/*")
        without = (
            ()
            if self.links
            else tuple(Misbehaviour(each.operation, each.error, path=f"{directory}/*") for each in NO_LINKS)
        )
        return (Misbehaviour(self.operation, "SIGKILL", Does.ALL, path=below, times=1), *without)

    def __str__(self) -> str:
        way, links = "over another" if self.replaces else "new", "with" if self.links else "without"
        return f"{self.size} bytes, {way}, {links} hard links, after {self.operation}"


CRASHES = [
    *[Crash(operation, LARGE, False) for operation in ("write", "link", "unlink", "fsyncdir")],
    *[Crash(operation, LARGE, True) for operation in ("flush", "link", "rename", "unlink", "fsyncdir")],
    *[Crash(operation, LARGE, False, links=False) for operation in ("flush", "rename")],
    *[Crash(operation, LARGE, True, links=False) for operation in ("flush", "rename", "fsyncdir")],
    *[Crash(operation, SMALL, False) for operation in ("link", "unlink")],
    *[Crash(operation, SMALL, True) for operation in ("link", "rename", "unlink")],
    *[Crash("rename", SMALL, replaces, links=False) for replaces in (False, True)],
]
"""The operations that a file's way to its name is made of."""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    with mounted(tmp_path_factory.mktemp("mount")) as mount:
        yield mount


@pytest.fixture(scope="module")
def cluster(mount: Mount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a destination in the mount, and no engine yet."""
    directory = tmp_path_factory.mktemp("crashes")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    with running(directory, tables=f'[destinations.mount]\nurl = "{mount.url}"\n') as cluster:
        yield cluster


def test_crashes(cluster: Cluster, mount: Mount) -> None:
    """Whenever an engine dies the target is the old file or the whole new one; in the end it is the new one, alone."""
    content = {size: os.urandom(size) for size in (SMALL, LARGE)}
    for size, data in content.items():
        (cluster.small / f"{size}").write_bytes(data)
    for number, crash in enumerate(CRASHES):
        (mount.back / f"{number}").mkdir()
        if crash.before is not None:
            (mount.back / f"{number}/{crash.path}").write_bytes(crash.before)
    told = [each for number, crash in enumerate(CRASHES) for each in crash.misbehaviours(f"{number}")]
    mount.tell(*told)

    def targets() -> list[There]:
        return [
            look(mount.back / f"{number}/{crash.path}", content[crash.size], crash.before)
            for number, crash in enumerate(CRASHES)
        ]

    jobs = []
    for number, crash in enumerate(CRASHES):
        engine = cluster.engine()
        jobs.append(ask(cluster, number, crash))
        wait_until(partial(_is_dead, engine), f"it dies: {crash}")
        assert engine.returncode == -signal.SIGKILL
        torn = [f"{crash}" for crash, there in zip(CRASHES, targets(), strict=True) if there is There.OTHER]
        assert not torn

    cluster.engine()
    wait_until(lambda: all(cluster.mover.jobs.status(job)["status"] == "COMPLETED" for job in jobs), "everything moved")
    assert [times for times, each in zip(mount.met(), told, strict=True) if each.kills] == [1] * len(CRASHES)
    assert targets() == [There.WHOLE] * len(CRASHES)
    assert not [str(path) for path in mount.back.rglob(".datamover-*")]


def ask(cluster: Cluster, number: int, crash: Crash) -> int:
    """Submit the move of one file to its directory; return the job."""
    job = {
        "source": {"destination": "small", "path": f"{crash.size}"},
        "destination": "mount",
        "path": f"{number}/{crash.path}",
        "overwrite": "always" if crash.replaces else "never",
    }
    return int(cluster.mover.jobs.submit(job)["id"])


def _is_dead(engine: Engine) -> bool:
    return engine.returncode is not None
