"""The engine over a real S3 service: large files in parts, small ones, and buckets as sources."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.errors import Scope
from datamover.jobs.values import Overwrite, State
from tests.engine.rig import Rig, file, place, url
from tests.engine.test_object_store import die_midway, until
from tests.protocols.s3 import BucketOutside
from tests.servers.s3 import BUCKET, S3Server, Swift
from tests.servers.web import File, Web

MIB = 2**20
BIG = os.urandom(72 * MIB)


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A Swift for all tests of this module."""
    server = Swift(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, swift: S3Server) -> Any:
    BucketOutside(swift).clear()
    rig = await Rig(reactor, tmp_path).open(
        {
            "bucket": {"url": f"s3://{BUCKET}/in", **swift.options},
            "slow": {"url": f"s3://{BUCKET}/slow", "bandwidth": "20MB/s", **swift.options},
            "checked": {"url": f"s3://{BUCKET}/checked", "verify": "read-back", **swift.options},
            "disk": {"url": (tmp_path / "disk").as_uri()},
        },
        transfers={"max_attempts": 3, "idle_timeout": "20s"},
    )
    yield rig
    await rig.close()


@pytest_twisted.ensureDeferred
async def test_there_and_back(rig: Rig, web: Web, swift: S3Server, tmp_path: Path) -> None:
    """A large file goes into a bucket in parts, with its time, and from there to a disk."""
    web.route("/f", File(BIG, etag='"1"', modified=1_700_000_000.0))
    await rig.engine()
    job, told = await rig.moved(file(url(f"{web.url}/f"), "checked", "dir/f"))
    assert job.state is State.COMPLETED, told
    assert BucketOutside(swift, "checked").read("dir/f") == BIG
    assert BucketOutside(swift, "checked").uploads() == 0

    job, told = await rig.moved(file(place("checked", "dir/f"), "disk", "f"))
    assert job.state is State.COMPLETED, told
    assert (tmp_path / "disk/f").read_bytes() == BIG
    assert (tmp_path / "disk/f").stat().st_mtime == 1_700_000_000.0


@pytest_twisted.ensureDeferred
async def test_resumed_by_another_node(rig: Rig, web: Web, swift: S3Server) -> None:
    """A node that dies midway is followed by one that goes on with the parts that the service has."""
    web.route("/f", File(BIG, etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    async def saved() -> bool:
        return bool(await rig.database.fetch("SELECT 1 AS one FROM transfers WHERE checkpoint IS NOT NULL"))

    job = await die_midway(rig, ask, saved)
    await rig.engine()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert BucketOutside(swift, "slow").read("f") == BIG
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["from"] >= 16 * MIB
    assert BucketOutside(swift, "slow").uploads() == 0


@pytest.mark.parametrize("size", [5, MIB])
@pytest_twisted.ensureDeferred
async def test_overwrite(rig: Rig, web: Web, swift: S3Server, size: int) -> None:
    """What is there is left where nothing may be replaced, and replaced where that was asked for."""
    outside, new = BucketOutside(swift, "in"), os.urandom(size)
    outside.lay("f", b"old")
    web.route("/f", File(new, etag='"1"'))
    await rig.engine()
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"), overwrite=Overwrite.NEVER)
    assert (told.error and told.error["code"]) == "DESTINATION_EXISTS"
    assert outside.read("f") == b"old"
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"), overwrite=Overwrite.ALWAYS)
    assert job.state is State.COMPLETED, told.error
    assert outside.read("f") == new
    assert outside.names() == ["f"]
    assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_cancelled(rig: Rig, web: Web, swift: S3Server) -> None:
    """A transfer that is cancelled midway leaves nothing."""
    web.route("/f", File(BIG, etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    async def saved() -> bool:
        return bool(await rig.database.fetch("SELECT 1 AS one FROM transfers WHERE checkpoint IS NOT NULL"))

    await until(saved)
    await rig.store.cancel(job)
    assert (await rig.ended(job)).state is State.CANCELLED
    outside = BucketOutside(swift, "slow")
    assert outside.uploads() == 0
    assert outside.names() == []


@pytest_twisted.ensureDeferred
async def test_left_by_a_node_that_told_nobody(rig: Rig, web: Web, swift: S3Server) -> None:
    """An upload that a node began and died over, before it told of it, is swept, and no other."""
    boto, other = swift.boto, {"Bucket": BUCKET, "Key": "slow/dir/another"}
    foreign = boto.create_multipart_upload(**other)["UploadId"]
    web.route("/f", File(BIG, etag='"1"'))
    outside = BucketOutside(swift, "slow/dir/f")

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "dir/f"))

    job = await die_midway(rig, ask, lambda: outside.uploads() == 1)
    made = {each["UploadId"] for each in boto.list_multipart_uploads(Bucket=BUCKET, Prefix="slow/dir/f")["Uploads"]}
    # The next node is another process.
    rig.registry.get("slow").pool.at(Scope.DESTINATION)._bucket.made.clear()  # type: ignore[attr-defined]
    web.route("/f", File(b"another", etag='"2"'))
    await rig.engine()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert BucketOutside(swift, "slow").read("dir/f") == b"another"
    [left] = boto.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert left["UploadId"] == foreign
    assert foreign not in made
