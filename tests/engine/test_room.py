"""Room on the staging disk: promised to one attempt is promised to no other."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from datamover.concurrency.threads import Threads
from datamover.engine.groups.staging import Staging, StagingDirectory
from datamover.errors import NoSpace

MIB = 2**20
DISK = 100 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 MiB with nothing on it."""
    at = tmp_path / "disk"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", at], check=True)
    yield at
    subprocess.run(["umount", at], check=True)


class Nodes:
    """Processes that stage on one disk, as far as they concern each other: each has a lock of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._nodes: list[Staging] = []

    async def node(self) -> Staging:
        staging = Staging(self._root, f"node-{len(self._nodes)}", reactor, Threads(reactor, "staging", 8))
        await staging.open()
        self._nodes.append(staging)
        return staging

    async def close(self) -> None:
        for node in self._nodes:
            await node.close()


@pytest_twisted.async_yield_fixture
async def nodes(disk: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(disk / "staging")
    yield nodes
    await nodes.close()


async def reserve(stages: list[StagingDirectory], size: int) -> list[Any]:
    """Have all ask at the same moment; return what each was told, None for room."""
    asked = [Deferred.fromCoroutine(stage.reserve(size)) for stage in stages]
    return [told for _, told in await DeferredList(asked, consumeErrors=True)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("processes", [1, 5])
async def test_at_the_same_moment(nodes: Nodes, processes: int) -> None:
    """Of many that ask at once for more than the disk has, as many get room as fit; the others are told how much is."""
    stagings = [await nodes.node() for _ in range(processes)]
    stages = [stagings[number % processes].stage(f"attempt-{number}") for number in range(20)]

    told = await reserve(stages, 30 * MIB)

    assert told.count(None) == 3
    refused = [failure for failure in told if isinstance(failure, Failure)]
    assert len(refused) == 17
    for failure in refused:
        assert isinstance(failure.value, NoSpace)
        assert failure.value.message.startswith(f"{30 * MIB} bytes are needed for staging in ")
    for stage in stages:
        await stage.close()
    assert await reserve([stagings[0].stage("again")], 95 * MIB) == [None]


@pytest_twisted.ensureDeferred
async def test_what_is_used_of_it(nodes: Nodes) -> None:
    """What an attempt has filled of its room is the disk's to tell, and is not counted twice."""
    node = await nodes.node()
    first, second = node.stage("first"), node.stage("second")
    await first.reserve(60 * MIB)
    await first.make("here")
    (first.directory / "here/file").write_bytes(os.urandom(60 * MIB))

    assert isinstance((await reserve([second], 45 * MIB))[0], Failure)
    assert await reserve([second], 35 * MIB) == [None]
    for stage in (first, second):
        await stage.close()


@pytest_twisted.ensureDeferred
async def test_given_up_while_it_asks(nodes: Nodes) -> None:
    """An attempt that is given up while it asks for room leaves no promise behind."""
    node = await nodes.node()
    stage = node.stage("given-up")
    asking = Deferred.fromCoroutine(stage.reserve(80 * MIB))
    asking.addErrback(lambda _: None)
    asking.cancel()
    await asking
    await stage.close()

    assert await reserve([node.stage("next")], 80 * MIB) == [None]


@pytest_twisted.ensureDeferred
async def test_promises_of_the_dead(nodes: Nodes, disk: Path) -> None:
    """What was promised to a process that died over it is free again."""
    node = await nodes.node()
    dead = disk / "staging/dead"
    dead.mkdir()
    (disk / "staging/dead.lock").touch()
    (dead / "attempt.room").write_text(str(80 * MIB))

    assert await reserve([node.stage("mine")], 80 * MIB) == [None]
