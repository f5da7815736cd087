"""Who holds a target: what is on its way there; and of what one owner asked for, the older."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from datamover.jobs.values import State
from datamover.jobs.work import Outcome
from tests.engine.rig import file, url
from tests.engine.test_shares import WIDE, Shared, queue


async def ask(shared: Shared, owner: str, **job: Any) -> int:
    """Ask for a file that is to be `same`."""
    return await shared.rig.ask(file(url("http://h.example.org/f"), "many", "same"), owner=owner, **job)


def held(shared: Shared) -> list[int]:
    """Return the jobs that are worked on."""
    return [group.leader.job for group in shared.node.held]


@pytest.mark.parametrize("other", ["ann", "bob"])
@pytest.mark.parametrize("begun", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_paused_job_holds_no_target(tmp_path: Path, other: str, begun: bool) -> None:
    """What is paused, before it began or on its way, lets others have its target; resumed, it waits its turn."""
    async with queue(tmp_path, WIDE) as shared:
        await shared.node.queue.heartbeat(0)
        paused = await ask(shared, "ann")
        if begun:
            await shared.take()
        await shared.rig.store.pause(paused)
        younger = await ask(shared, other)
        if begun:
            assert await shared.take() == {"ann": 1}
            (group,) = shared.node.held
            shared.node.held.clear()
            await shared.node.queue.release([group.leader])
        await shared.take()
        assert held(shared) == [younger]
        await shared.rig.store.resume(paused)
        await shared.take()
        assert held(shared) == [younger]
        assert (await shared.rig.store.job(paused)).waiting_for is not None
        await shared.node.finish(shared.node.held)
        await shared.take()
        assert held(shared) == [paused]


@pytest_twisted.ensureDeferred
async def test_what_waits_for_an_attempt_holds_up_its_owner_alone(tmp_path: Path) -> None:
    """While one owner's file waits for its next attempt another's may have its target; that owner's own may not."""
    async with queue(tmp_path, WIDE) as shared:
        await ask(shared, "ann")
        await shared.take()
        (group,) = shared.node.held
        shared.node.held.clear()
        await shared.node.queue.settle([Outcome(group.leader, State.PENDING, 1, 3600.0)])
        await ask(shared, "ann")
        bobs = await ask(shared, "bob", priority=1)
        await shared.take()
        assert held(shared) == [bobs]


@pytest_twisted.ensureDeferred
async def test_of_several_owners_one_at_a_time(tmp_path: Path) -> None:
    """However many owners wait for one target, a claim takes one file for it; they take turns."""
    async with queue(tmp_path, WIDE) as shared:
        for owner in ("ann", "ann", "bob", "cat"):
            await ask(shared, owner)
        for _ in range(4):
            await shared.take()
            assert len(shared.node.held) == 1
            await shared.node.finish(shared.node.held)
        assert set(shared.served[:3]) == {"ann", "bob", "cat"}
        assert shared.served[3] == "ann"
