"""What an attempt leaves at a destination that goes away then, of a transfer that is tried again."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from datamover.errors import ConnectFailed, Scope
from datamover.jobs.queue.queue import Queue
from datamover.jobs.values import Checksum, State
from datamover.jobs.work import Outcome
from datamover.postgres.database import Cursor
from tests.engine.rig import PATIENCE, Rig, file, parts, place, url
from tests.servers.web import File, Web

NODE = "00000000-0000-0000-0000-00000000000a"
WRONG, RIGHT = os.urandom(2**20), os.urandom(2**20)


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    rig = await Rig(reactor, tmp_path).open({"breaking": {"url": f"faulty://{tmp_path}/breaking"}})
    yield rig
    await rig.close()


@pytest.fixture
def web(web: Web) -> Web:
    web.route("/f", File(WRONG, etag='"1"'))
    return web


async def left_once(rig: Rig, web: Web, *, held: bool) -> int:
    """Have one attempt fail while the destination is away, and held from then on or not; return the job."""
    away: list[str] = []

    async def before(operation: str, path: str) -> None:
        if operation == "remove" and not away:
            away.append(path)
            web.route("/f", File(RIGHT, etag='"2"'))
            if held:
                await rig.store.hold("breaking", "for the test")
            raise ConnectFailed("nobody answers", scope=Scope.DESTINATION)

    rig.faulty.before = before
    await rig.engine()
    checksum = Checksum("sha256", hashlib.sha256(RIGHT).hexdigest())
    job = await rig.ask(file(url(f"{web.url}/f"), "breaking", "f", checksum=checksum))
    deadline = reactor.seconds() + PATIENCE
    while "retrying" not in await rig.kinds(job):
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.02)
    assert away
    return job


@pytest_twisted.ensureDeferred
async def test_tried_again(rig: Rig, web: Web, tmp_path: Path) -> None:
    """The next attempt comes when it was said to, and not only when what is left would be swept; it leaves nothing."""
    job = await left_once(rig, web, held=False)
    assert (await rig.ended(job)).state is State.COMPLETED
    assert await rig.kinds(job) == ["submitted", "started", "retrying", "started", "completed", "completed"]
    assert (tmp_path / "breaking/f").read_bytes() == RIGHT
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_cancelled_meanwhile(rig: Rig, web: Web, tmp_path: Path) -> None:
    """Cancelled before the next attempt, what is left is removed all the same."""
    job = await left_once(rig, web, held=True)
    assert parts(tmp_path)
    await rig.store.cancel(job)
    await rig.store.release("breaking")
    assert (await rig.ended(job)).state is State.CANCELLED
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_noted_when_it_stops(rig: Rig) -> None:
    """A process that stops while it waits for a connection still notes what it may have left under a lost lease."""
    await rig.ask(file(place("breaking", "a"), "breaking", "b"))
    queue = Queue(rig.database, rig.seal, node=NODE, name=NODE, roles=["engine"])
    (group,) = await queue.claim(rig.limits, 1)
    await queue.settle([Outcome(group.leader, State.COMPLETED, 0, size=1)])
    engine = await rig.engine()
    await deferLater(reactor, 0.2)

    async def occupy(cursor: Cursor) -> None:
        await cursor.execute("SELECT pg_sleep(2)")

    busy = [Deferred.fromCoroutine(rig.database.transaction(occupy)) for _ in range(8)]
    engine.dispatcher._maintenance.late(group.leader)
    await deferLater(reactor, 0.2)
    await engine.stop()
    rig.engines.remove(engine)
    for one in busy:
        await one
    assert await rig.database.fetch("SELECT late, traces FROM transfers") == [{"late": True, "traces": True}]
