"""The engine over a real S3 service: large files in parts, small ones, and buckets as sources."""

import hashlib
import pathlib
import zipfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.engine.transfer.pipe import CHECKPOINT_BYTES
from datamover.errors import Scope
from datamover.jobs.values import Checksum, Overwrite, State
from datamover.protocols.object_store.limits import S3_LIMITS
from datamover.registry.strays import with_strays
from tests.engine.rig import Rig, file, large, place, random_bytes, url
from tests.engine.test_groups import NAMES, Letters, files
from tests.engine.test_object_store import die_midway
from tests.protocols.s3 import BucketOutside
from tests.servers.path import Path, path_to
from tests.servers.ports import free_port
from tests.servers.s3 import BUCKET, S3Account
from tests.servers.swift import SwiftServer
from tests.servers.web import File, Web
from tests.waiting import until

MIB = 2**20
big = partial(large, 72 * MIB)
middle = partial(large, 40 * MIB)
"""What goes to "slow", is interrupted when a checkpoint of 16 MiB is known, and goes on at full speed."""


@pytest.fixture(scope="module")
def swift(swift: SwiftServer) -> S3Account:
    return swift.s3


@pytest.fixture
def path(swift: S3Account) -> Iterator[Path]:
    """What lies between the engine and the service, for the destination "far"."""
    with path_to(swift.port) as path:
        yield path


@pytest.fixture
def port() -> int:
    """The port of the destination "away", at which nobody listens."""
    return free_port()


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: pathlib.Path, swift: S3Account, path: Path, port: int) -> Any:
    BucketOutside(swift, "").clear()
    far = {**swift.options, "endpoint": f"http://127.0.0.1:{path.port}"}
    away = {**swift.options, "endpoint": f"http://127.0.0.1:{port}"}
    rig = await Rig(reactor, tmp_path).open(
        {
            "far": {"url": f"s3://{BUCKET}/far", **far},
            "away": {"url": f"s3://{BUCKET}/away", **away},
            "archive": {"url": f"s3://{BUCKET}/archive", **swift.options},
            "bucket": {"url": f"s3://{BUCKET}/in", **swift.options},
            "slow": {"url": f"s3://{BUCKET}/slow", "bandwidth": "10MB/s", **swift.options},
            "checked": {"url": f"s3://{BUCKET}/checked", "verify": "read-back", **swift.options},
            "disk": {"url": (tmp_path / "disk").as_uri()},
        },
        transfers={"max_attempts": 3, "idle_timeout": "20s"},
    )
    yield rig
    await rig.close()


@pytest_twisted.ensureDeferred
async def test_there_and_back(rig: Rig, web: Web, swift: S3Account, tmp_path: pathlib.Path) -> None:
    """A large file goes into a bucket in parts, with its time, and from there to a disk."""
    web.route("/f", File(big(), etag='"1"', modified=1_700_000_000.0))
    await rig.engine()
    job, told = await rig.moved(file(url(f"{web.url}/f"), "checked", "dir/f"))
    assert job.state is State.COMPLETED, told
    assert BucketOutside(swift, "checked").read("dir/f") == big()
    assert BucketOutside(swift, "checked").uploads() == 0

    job, told = await rig.moved(file(place("checked", "dir/f"), "disk", "f"))
    assert job.state is State.COMPLETED, told
    assert (tmp_path / "disk/f").read_bytes() == big()
    assert (tmp_path / "disk/f").stat().st_mtime == 1_700_000_000.0


@pytest_twisted.ensureDeferred
async def test_resumed_by_another_node(rig: Rig, web: Web, swift: S3Account) -> None:
    """A node that dies midway is followed by one that goes on with the parts that the service has."""
    web.route("/f", File(middle(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    job = await die_midway(rig, ask, rig.saved)
    await rig.engine()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert BucketOutside(swift, "slow").read("f") == middle()
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["from"] >= CHECKPOINT_BYTES
    assert BucketOutside(swift, "slow").uploads() == 0


@pytest.mark.parametrize("size", [5, MIB])
@pytest_twisted.ensureDeferred
async def test_overwrite(rig: Rig, web: Web, swift: S3Account, size: int) -> None:
    """What is there is left where nothing may be replaced, and replaced where that was asked for."""
    outside, new = BucketOutside(swift, "in"), random_bytes(size)
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
async def test_cancelled(rig: Rig, web: Web, swift: S3Account) -> None:
    """A transfer that is cancelled midway leaves nothing."""
    web.route("/f", File(middle(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    await until(rig.saved)
    await rig.store.cancel(job)
    assert (await rig.ended(job)).state is State.CANCELLED
    outside = BucketOutside(swift, "slow")
    assert outside.uploads() == 0
    assert outside.names() == []


@pytest_twisted.ensureDeferred
async def test_left_by_a_node_that_told_nobody(rig: Rig, web: Web, swift: S3Account) -> None:
    """An upload that a node began and died over, before it told of it, is swept, and no other."""
    boto, other = swift.boto, {"Bucket": BUCKET, "Key": "slow/dir/another"}
    foreign = boto.create_multipart_upload(**other)["UploadId"]
    web.route("/f", File(middle(), etag='"1"'))
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


@pytest_twisted.ensureDeferred
async def test_begun_anew_where_nobody_is_told_to_have_begun(rig: Rig, web: Web, swift: S3Account) -> None:
    """The upload of a checkpoint that is not gone on with is aborted, also where a service tells no initiator."""
    web.route("/f", File(middle(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    job = await die_midway(rig, ask, rig.saved)
    # The next node is another process, at a service that tells none.
    bucket = rig.registry.get("slow").pool.at(Scope.DESTINATION)._bucket  # type: ignore[attr-defined]
    bucket.made.clear()
    bucket.initiator._id = ""
    web.route("/f", File(b"another", etag='"2"'))
    await rig.engine()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert BucketOutside(swift, "slow").read("f") == b"another"
    assert BucketOutside(swift, "slow").uploads() == 0


@pytest_twisted.ensureDeferred
async def test_dataset(rig: Rig, web: Web, swift: S3Account) -> None:
    """A dataset's files stand in the bucket together, and no upload of them is left."""
    web.route("/letters", File(b"abc", etag='"1"'))
    rig.datasets["letters"] = Letters(rig, web)
    await rig.engine()
    job, _ = await rig.moved(*files())
    assert job.state is State.COMPLETED, job.error
    outside = BucketOutside(swift, "archive")
    assert outside.names("set") == sorted(NAMES)
    assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_archive(rig: Rig, web: Web, swift: S3Account) -> None:
    """Files of a bucket and of the web go into one archive in a bucket."""
    contents = {"one": random_bytes(MIB), "two": random_bytes(6 * MIB)}
    BucketOutside(swift, "in").lay("one", contents["one"])
    web.route("/two", File(contents["two"], etag='"1"'))
    await rig.engine()
    target = ("archive", "all.zip")
    job, _ = await rig.moved(file(place("bucket", "one"), *target), file(url(f"{web.url}/two"), *target), archive="zip")
    assert job.state is State.COMPLETED, job.error
    with zipfile.ZipFile(BytesIO(BucketOutside(swift, "archive").read("all.zip") or b"")) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    assert BucketOutside(swift, "archive").uploads() == 0


@pytest.mark.parametrize("size", [5, MIB])
@pytest_twisted.ensureDeferred
async def test_same_content_by_the_digest(rig: Rig, web: Web, swift: S3Account, size: int) -> None:
    """A file that came with its checksum is known by it later: neither side is read again."""
    data = random_bytes(size)
    checksum = Checksum("sha256", hashlib.sha256(data).hexdigest())
    web.route("/f", File(data, etag='"1"'))
    await rig.engine()
    asked = file(url(f"{web.url}/f"), "far", "f", checksum=checksum)
    job, [told] = await rig.moved(asked, overwrite=Overwrite.IF_DIFFERENT)
    assert job.state is State.COMPLETED, told.error
    metadata = swift.boto.head_object(Bucket=BUCKET, Key="far/f")["Metadata"]
    assert metadata["datamover-sha256"] == checksum.hexdigest
    # Whoever read it would find it to be different.
    swift.boto.put_object(Bucket=BUCKET, Key="far/f", Body=bytes(size), Metadata=metadata)
    job, [told] = await rig.moved(asked, overwrite=Overwrite.IF_DIFFERENT)
    assert job.state is State.COMPLETED, told.error
    assert told.digest == f"sha256:{checksum.hexdigest}"
    assert "already_there" in await rig.kinds(job.id)


@pytest_twisted.ensureDeferred
async def test_wrong_checksum(rig: Rig, web: Web, swift: S3Account) -> None:
    """A file that is not what its checksum says does not stand in the bucket, and no upload of it is left."""
    web.route("/f", File(random_bytes(MIB), etag='"1"'))
    await rig.engine()
    wrong = Checksum("sha256", hashlib.sha256(b"other").hexdigest())
    _, [told] = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f", checksum=wrong))
    assert (told.error and told.error["code"]) == "CHECKSUM_MISMATCH"
    assert BucketOutside(swift, "in").names() == []
    assert BucketOutside(swift, "in").uploads() == 0


@pytest_twisted.ensureDeferred
async def test_paused(rig: Rig, web: Web, swift: S3Account) -> None:
    """A job that is paused midway goes on from there when it is resumed, and sends less than S3's least part twice."""
    web.route("/f", File(middle(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    async def still() -> bool:
        return not await rig.database.fetch("SELECT 1 AS one FROM transfers WHERE node IS NOT NULL")

    await until(rig.saved)
    await rig.store.pause(job)
    await until(still)
    rig.lift_limits()
    await rig.store.resume(job)
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["resent"] < S3_LIMITS.least
    assert BucketOutside(swift, "slow").read("f") == middle()


@pytest_twisted.ensureDeferred
async def test_cut(rig: Rig, web: Web, swift: S3Account, path: Path) -> None:
    """Where the service cuts every connection midway, the file arrives nevertheless, whole and once."""
    web.route("/f", File(big(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "far", "f"))
    await until(lambda: path.sent > 20 * MIB)
    path.cut()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert BucketOutside(swift, "far").read("f") == big()
    assert BucketOutside(swift, "far").uploads() == 0


@pytest_twisted.ensureDeferred
async def test_away(rig: Rig, web: Web, swift: S3Account, port: int) -> None:
    """While a service is away a breaker stops what goes there; all of it goes when the service is back."""
    web.route("/f", File(b"data", etag='"1"'))
    await rig.engine()
    jobs = [await rig.ask(file(url(f"{web.url}/f"), "away", f"{n}"), max_attempts=50) for n in range(8)]

    async def stopped() -> bool:
        return bool(await rig.database.fetch("SELECT 1 AS one FROM breakers WHERE closed_until IS NOT NULL"))

    await until(stopped)
    with path_to(swift.port, port):
        await rig.store.release("away")
        for job in jobs:
            record = await rig.ended(job)
            assert record.state is State.COMPLETED, record.error
        assert len(BucketOutside(swift, "away").names()) == len(jobs)


@pytest_twisted.ensureDeferred
async def test_strays_are_named(rig: Rig, web: Web, swift: S3Account) -> None:
    """The test of a destination names the uploads that no transfer goes on with, and touches none."""
    web.route("/f", File(middle(), etag='"1"'))
    outside = BucketOutside(swift, "slow")
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await until(lambda: outside.uploads() == 1)
    made = swift.boto.create_multipart_upload(Bucket=BUCKET, Key="slow/lost")["UploadId"]
    told = await with_strays(rig.store, "slow", await rig.registry.test("slow"))
    assert told["ok"], told
    [stray] = told["strays"]
    assert stray["path"] == "lost"
    assert made in stray["message"]
    assert "uploads" not in told
    assert outside.uploads() == 2
    await rig.store.cancel(job)
    await rig.ended(job)
    swift.boto.abort_multipart_upload(Bucket=BUCKET, Key="slow/lost", UploadId=made)
    assert "strays" not in await with_strays(rig.store, "slow", await rig.registry.test("slow"))
