"""Sums over a job and a day: of the most and largest files that there can be, none overflows."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from datamover.bounds.calls import LARGEST_FILE
from datamover.jobs.queue.limits import QueueLimits, Quota
from datamover.jobs.values import Checkpoint, NewFile, Progress, State
from datamover.jobs.work import Outcome, Placement
from tests.engine.rig import Rig, file, url

FILES = 100_000
MOST = 2**63 - 1
"""What a sum is told as that is more."""


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open(
        {"archive": {"url": (tmp_path / "archive").as_uri()}},
        limits=QueueLimits(owners={"tester": Quota(None, None, 10**15)}, queued=2 * FILES, total=10, per_owner=10),
    )
    yield rig
    await rig.close()


def files(count: int, size: int | None) -> list[NewFile]:
    return [file(url("http://127.0.0.1:9/file"), "archive", f"{number}", size=size) for number in range(count)]


@pytest_twisted.ensureDeferred
async def test_as_many_and_large_as_can_be(rig: Rig) -> None:
    """A job of 100,000 files of 2^53 bytes is taken, moves, and ends; its figures, and its owner's, can be told."""
    job = await rig.ask(*files(FILES, LARGEST_FILE))
    assert (await rig.store.job(job)).bytes_total == MOST

    queue = (await rig.engine(max_active=0)).queue
    moving = {"job": job, "size": LARGEST_FILE}
    await rig.database.execute(
        "UPDATE transfers SET state = 'IN_PROGRESS', bytes_done = %(size)s, rate = %(size)s WHERE job = %(job)s"
        " AND index > 10",
        moving,
    )
    assert (await rig.store.job(job)).bytes_done == MOST
    assert (await rig.store.job(job)).rate > MOST

    claimed = await queue.claim(rig.limits, 2)
    leaders = [group.leader for group in claimed]
    told = [
        Progress(each.id, each.lease, LARGEST_FILE, LARGEST_FILE - 1, 1.0, "moving", None, None) for each in leaders
    ]
    await queue.progress(told)
    await rig.database.execute(
        "UPDATE transfers SET state = 'COMPLETED', size = %(size)s, finished_at = now(), node = NULL"
        " WHERE job = %(job)s AND index > 10",
        moving,
    )
    await rig.database.execute(f"UPDATE jobs SET bytes_settled = {MOST - 5} WHERE id = %(job)s", moving)
    await queue.settle([Outcome(each, State.COMPLETED, 0, size=LARGEST_FILE, digest="sha256:00") for each in leaders])

    record = await rig.store.job(job)
    assert (record.bytes_total, record.bytes_done) == (MOST, MOST)
    assert record.files_completed == len(leaders) == 2
    assert await queue.over_daily_quota(rig.limits) == ["tester"]
    assert "bytes_per_day" in ((await rig.store.job(job)).waiting_for or "")


@pytest_twisted.ensureDeferred
async def test_sizes_that_become_known(rig: Rig) -> None:
    """Sizes that are told only while their files move add up no further than a sum can."""
    job = await rig.ask(*files(3, None))
    queue = (await rig.engine(max_active=0)).queue
    leaders = [group.leader for group in await queue.claim(rig.limits, 3)]
    await rig.database.execute(f"UPDATE jobs SET bytes_sized = {MOST - 5} WHERE id = %(job)s", {"job": job})

    one, two, three = leaders
    await queue.progress([Progress(one.id, one.lease, 1, LARGEST_FILE, 1.0, "moving", None, None)])
    kept = Checkpoint("part", "", LARGEST_FILE, "00")
    assert await queue.placing(two, [Placement(two, "1", LARGEST_FILE, "sha256:00", kept, own=True)])
    await queue.settle([Outcome(replace(three), State.COMPLETED, 0, size=LARGEST_FILE, digest="sha256:00")])

    record = await rig.store.job(job)
    assert record.bytes_total == MOST
    assert record.bytes_done == LARGEST_FILE + 1
