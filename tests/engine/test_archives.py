"""Archives: the files of a job as one zip, made on the node's own disk, placed as one file."""

import hashlib
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.engine.groups.archive import unique_names
from datamover.jobs.values import Naming, Overwrite, State
from tests.engine.rig import Rig, file, parts, url
from tests.servers.web import File, Web


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri()}})
    await rig.engine()
    yield rig
    await rig.close()


@pytest_twisted.ensureDeferred
async def test_zip(rig: Rig, web: Web, tmp_path: Path) -> None:
    """All files of a job arrive as one zip at its path, stored, by their names, each as it was at its source."""
    contents = {f"f{number}.bin": os.urandom(100_000 * number) for number in range(4)}
    for name, content in contents.items():
        web.route(f"/{name}", File(content, etag='"1"'))

    job, files = await rig.moved(
        *(file(url(f"{web.url}/{name}"), "archive", "out/all.zip") for name in contents), archive="zip"
    )

    assert job.state is State.COMPLETED
    with zipfile.ZipFile(tmp_path / "archive/out/all.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert [one.digest for one in files] == [
        f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents.values()
    ]
    assert (job.bytes_total, job.bytes_done) == (600_000, 600_000)
    assert await rig.kinds(job.id) == ["submitted", "preparing", "archived", "completed", "completed"]
    assert not parts(tmp_path)
    assert not list((tmp_path / "staging").glob("*/*"))


@pytest_twisted.ensureDeferred
async def test_archives_of_one_owner_leave_threads_to_others(rig: Rig, web: Web) -> None:
    """An owner whose archives take long has half of the threads; another's archive is made meanwhile."""
    web.route("/a", File(b"a", etag='"1"'))
    for _ in range(2):
        await rig.pools.archives.places.take("greedy")
    sources = file(url(f"{web.url}/a"), "archive", "1.zip"), file(url(f"{web.url}/a"), "archive", "2.zip")
    waits = await rig.ask(sources[0], archive="zip", owner="greedy")
    while not len(rig.pools.archives.places):
        await deferLater(reactor, 0.01, lambda: None)
    job, _ = await rig.moved(sources[1], archive="zip", owner="other")
    assert job.state is State.COMPLETED
    assert not (await rig.store.job(waits)).state.terminal
    rig.pools.archives.places.give("greedy")
    assert (await rig.ended(waits)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_bagit(rig: Rig, web: Web, tmp_path: Path) -> None:
    """The original's archive holds data/ and a manifest of md5 sums, and is named for the job."""
    for part in "ab":
        web.route(f"/{part}/occurrences.csv", File(part.encode(), etag='"1"'))

    job, _ = await rig.moved(
        *(file(url(f"{web.url}/{part}/occurrences.csv"), "archive", "in", Naming.INTO) for part in "ab"),
        archive="bagit",
        overwrite=Overwrite.ALWAYS,
    )

    assert job.state is State.COMPLETED
    with zipfile.ZipFile(tmp_path / f"archive/in/move-job-{job.id}.zip") as archive:
        assert archive.namelist() == ["data/occurrences.csv", "data/occurrences-2.csv", "manifest-md5.txt"]
        assert archive.read("manifest-md5.txt").decode() == (
            f"{hashlib.md5(b'a').hexdigest()} data/occurrences.csv\n"
            f"{hashlib.md5(b'b').hexdigest()} data/occurrences-2.csv\n"
        )


@pytest_twisted.ensureDeferred
async def test_one_file_is_missing(rig: Rig, web: Web, tmp_path: Path) -> None:
    """An archive of which one file cannot be had is not placed, and the reason names the file."""
    web.route("/there", File(b"a", etag='"1"'))

    job, files = await rig.moved(
        *(file(url(f"{web.url}/{name}"), "archive", "all.zip") for name in ("there", "missing")), archive="zip"
    )

    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "SOURCE_NOT_FOUND"
    assert job.error["message"].startswith("files[1]: ")
    assert [one.state for one in files] == [State.FAILED, State.FAILED]
    assert not (tmp_path / "archive/all.zip").exists()
    assert not list((tmp_path / "staging").glob("*/*"))


@pytest_twisted.ensureDeferred
async def test_no_room_to_stage(rig: Rig, web: Web, tmp_path: Path) -> None:
    """What does not fit on the staging disk is not begun, and the reason names the disk and both numbers."""
    web.route("/huge", File(b"x", etag='"1"', length=10**15))
    job, _ = await rig.moved(file(url(f"{web.url}/huge"), "archive", "all.zip"), archive="zip", max_attempts=1)

    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "NO_SPACE"
    assert f"{2 * 10**15} bytes are needed for staging in {tmp_path}/staging and " in job.error["message"]
    assert not list((tmp_path / "staging").glob("*/*"))


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["a", "b"], ["a", "b"]),
        (["a.csv", "a.csv", "a.csv"], ["a.csv", "a-2.csv", "a-3.csv"]),
        (["a.csv", "a-2.csv", "a.csv"], ["a.csv", "a-2.csv", "a-3.csv"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
    ],
)
def test_unique_names(names: list[str], unique: list[str]) -> None:
    """A name that comes again gets a number that no other has."""
    assert unique_names(names) == unique


@pytest.mark.parametrize(
    "names",
    [
        ["a.csv"] * 100_000,
        [*["a.csv"] * 50_000, *(f"a-{number}.csv" for number in range(50_000))],
        [*(f"a-{number}.csv" for number in range(50_000)), *["a.csv"] * 50_000],
        ["a"] * 50_000 + ["a-2"] * 50_000,
    ],
    ids=["one", "before", "behind", "two"],
)
def test_many_names_are_made_unique_in_no_time(names: list[str]) -> None:
    """However often a name comes, each is looked at once: a hundred thousand take as long as ten times ten thousand."""
    began = time.process_time()
    assert len(set(unique_names(names))) == len(names)
    assert time.process_time() - began < 3
