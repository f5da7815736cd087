"""Moving to what ``rclone mount`` shows of a disk, good or bad: with no cache at all, or with one of its caches."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import State
from tests.engine.mounts import EMPTY, HUGE, LARGE, SMALL, MountRig, Way, over
from tests.engine.outcome import There, lines
from tests.engine.rig import parts
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import mounted
from tests.servers.mounts.rclone import MODES, rclone_mounted

RENAME = (Misbehaviour("rename", "EIO"),)
DELAY = 10.0
"""Seconds within which rclone has brought to the disk what it shows: its cache tells nobody when."""


@pytest_twisted.async_yield_fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MountRig]:
    with mounted(tmp_path / "disk") as disk, rclone_mounted(disk.at, tmp_path / "cloud", request.param) as at:
        rig = await MountRig(reactor, tmp_path, disk, at=at, delay=DELAY).open()
        yield rig
        await rig.close()


@pytest.mark.parametrize("rig", MODES, indirect=True)
@pytest_twisted.ensureDeferred
async def test_good_disk(rig: MountRig) -> None:
    """A file of any size arrives, at its first attempt, over another or not; what is to stay stays."""
    ended = await rig.run(over([()], (EMPTY, SMALL, LARGE, HUGE), tuple(Way)))

    wrong = [
        outcome
        for move, outcome in ended
        if (outcome.state, outcome.attempt, outcome.there)
        != ((State.FAILED, 1, There.BEFORE) if move.way is Way.OTHER else (State.COMPLETED, 1, There.WHOLE))
    ]
    assert not wrong, lines(wrong)
    assert not ended.opened
    assert not parts(rig.at)


@pytest.mark.parametrize("rig", ["off"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_bad_disk(rig: MountRig) -> None:
    """What the disk behind it refuses, or keeps less of, is never taken for arrived: it is told at close(2)."""
    rows = [
        (Misbehaviour("write", "ENOSPC"),),
        (Misbehaviour("write", "ENOSPC", Does.HALF, times=1),),
        (Misbehaviour("flush", "EDQUOT", Does.LOSES),),
        RENAME,
        (Misbehaviour("create", "EACCES"),),
    ]

    ended = await rig.run(over(rows, (SMALL, LARGE)))

    wrong = [outcome for outcome in ended.outcomes if not outcome.whole_or_said]
    # To rename over a file it removes that first, and comes to grief only then.
    wrong += [outcome for move, outcome in ended if not outcome.untouched and move.misbehaviours != RENAME]
    assert not wrong, lines(wrong)
    assert all(times for move, times in zip(ended.moves, ended.met, strict=True) if move.misbehaviours != RENAME)
    assert not ended.opened
