"""Room that destinations keep free, and what is placed together or is there already."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.engine.room.survey import FRESH
from datamover.jobs.values import Overwrite, State
from tests.engine import test_keep_free
from tests.engine.rig import Rig, file, parts, url
from tests.engine.test_groups import NAMES, Letters, files
from tests.engine.test_keep_free import DISK, KEEP, MIB, became, failures, fill, free, waits
from tests.servers.web import File, Web

disk = test_keep_free.disk


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, disk: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": disk.as_uri(), "keep_free": KEEP}})
    yield rig
    await rig.close()


@pytest.fixture
def letters(rig: Rig, web: Web) -> Letters:
    web.route("/letters", File(os.urandom(8 * MIB), etag='"1"'))
    rig.datasets["letters"] = letters = Letters(rig, web)
    return letters


@pytest_twisted.ensureDeferred
async def test_dataset_waits(rig: Rig, letters: Letters, disk: Path) -> None:
    """A dataset that would not fit is made once, waits for room for all of it, and arrives whole."""
    filler = fill(disk, DISK - KEEP - 4 * MIB)
    await rig.engine()
    job = await rig.ask(*files(), max_attempts=1)
    told = await became(rig, job, lambda record: f"room for {8 * MIB + 2 * 4096} bytes" in (record.waiting_for or ""))
    assert f"{KEEP + 4 * MIB} are free" in str(told.waiting_for)
    assert len(letters.memories) == 1
    assert not (disk / "set").exists()
    assert not parts(disk)
    assert await failures(rig, job) == [0, 0, 0]
    filler.unlink()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert sorted(os.listdir(disk / "set")) == sorted(NAMES)


@pytest_twisted.ensureDeferred
async def test_dataset_in_part(rig: Rig, letters: Letters, disk: Path) -> None:
    """Of a dataset whose large file is there already only the others need room."""
    await rig.engine()
    job, _ = await rig.moved(*files())
    assert job.state is State.COMPLETED
    (disk / "set/b.txt").write_bytes(b"changed")
    fill(disk, free(disk) - KEEP - 2 * MIB)
    await deferLater(reactor, FRESH)  # What the disk told before is used no more.

    job, told = await rig.moved(*files(), overwrite=Overwrite.IF_DIFFERENT)

    assert job.state is State.COMPLETED, told
    assert (disk / "set/b.txt").read_text() == "b"


@pytest_twisted.ensureDeferred
async def test_dataset_there(rig: Rig, letters: Letters, disk: Path) -> None:
    """A dataset that is there already needs no room, however full the disk is."""
    await rig.engine()
    await rig.moved(*files())
    fill(disk, free(disk) - KEEP)
    await deferLater(reactor, FRESH)

    job, told = await rig.moved(*files())

    assert job.state is State.COMPLETED, told
    assert free(disk) == KEEP


@pytest_twisted.ensureDeferred
async def test_archive_that_may_not_be_replaced(rig: Rig, web: Web, disk: Path) -> None:
    """An archive for which there is no room, and whose target is taken, is refused and does not wait."""
    (disk / "all.zip").write_bytes(b"other")
    web.route("/f", File(os.urandom(8 * MIB), etag='"1"'))
    fill(disk, free(disk) - KEEP - MIB)
    await rig.engine()

    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "archive", "all.zip"), archive="zip", max_attempts=1)

    assert job.state is State.FAILED
    assert told.error is not None
    assert told.error["code"] == "DESTINATION_EXISTS"
    assert (disk / "all.zip").read_bytes() == b"other"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [10, 4 * MIB])
@pytest.mark.parametrize("overwrite", [Overwrite.NEVER, Overwrite.IF_DIFFERENT])
async def test_there(rig: Rig, web: Web, disk: Path, size: int, overwrite: Overwrite) -> None:
    """A file that is there already, small or large, needs no room at a full disk; one that is replaced does."""
    content = os.urandom(size)
    (disk / "f").write_bytes(content)
    web.route("/f", File(content, etag='"1"'))
    fill(disk, free(disk) - KEEP)
    await rig.engine()

    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), overwrite=overwrite)
    assert job.state is State.COMPLETED
    assert "already_there" in await rig.kinds(job.id)

    replacing = await rig.ask(file(url(f"{web.url}/f"), "archive", "f"), overwrite=Overwrite.ALWAYS)
    await became(rig, replacing, waits)
    (disk / "filler").unlink()
    assert (await rig.ended(replacing)).state is State.COMPLETED
