"""The conformance suite over S3, against the strictest service and the laxest."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Origin
from datamover.protocols.place import TellsUploads
from datamover.protocols.s3 import S3
from datamover.protocols.upload import UploadKey
from datamover.registry.probe import probe
from tests.protocols.conformance import Premises, get, put, there_and_back, write
from tests.protocols.s3 import BucketOutside, S3Conformance, S3Premises, opened
from tests.servers.s3 import BUCKET, RcloneS3, S3Account
from tests.servers.swift import SwiftServer


@pytest.fixture(scope="module")
def swift(swift: SwiftServer) -> S3Account:
    return swift.s3


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    """An rclone for all tests of this module."""
    server = RcloneS3(tmp_path_factory.mktemp("rclone"))
    server.start()
    yield server
    server.stop()


class TestSwift(S3Conformance):
    @pytest.fixture
    def premises(self, swift: S3Account) -> Iterator[Premises]:
        BucketOutside(swift).clear()
        premises = S3Premises(swift)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


class TestRclone(S3Conformance):
    honours = False
    removes = False
    makes_twice = True

    @pytest.fixture
    def premises(self, rclone: S3Account) -> Iterator[Premises]:
        BucketOutside(rclone).clear()
        premises = S3Premises(rclone)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


# What is not of every protocol --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_keys(swift: S3Account) -> None:
    """Names of all that S3 takes go there and back, two that differ by case or by their Unicode form apart."""
    BucketOutside(swift).clear()
    async with opened(swift) as pool:
        await there_and_back(pool, BucketOutside(swift))


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("é" * 512, f"it has {1024 + len('a/prefix/')} bytes, 1024 at most"),
        ("\udce9", "it is not UTF-8"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_keys(swift: S3Account, path: str, words: str, by_parts: bool) -> None:
    """What no service takes as a key is refused in words, and nothing is left of it."""
    BucketOutside(swift).clear()
    async with opened(swift) as pool:
        upload = pool.at(Scope.DESTINATION).begin(path, UploadKey("1", "a"))
        with pytest.raises(errors.DestinationInvalid, match=words):
            await (upload.open() if by_parts else upload.store(b"", replace=False, commit=lambda: None))
        assert upload.token is None
        await upload.close()
        with pytest.raises(errors.SourceForbidden, match=words):
            await pool.at(Scope.SOURCE).origin(path).open()
    assert BucketOutside(swift).uploads() == 0


@pytest_twisted.ensureDeferred
async def test_keys_that_are_no_xml(rclone: S3Account) -> None:
    """Keys with characters that XML does not have go there and back, in parts too, and are listed."""
    BucketOutside(rclone).clear()
    names = ["\x01", "\x0b\x1f", "\ufffe"]
    async with opened(rclone) as pool:
        for name in names:
            await put(pool.at(Scope.DESTINATION), f"d/{name}", name.encode())
            assert await get(pool.at(Scope.SOURCE), f"d/{name}") == (0, name.encode())
        assert await pool.at(Scope.SOURCE).list("d") == sorted(names)
    assert BucketOutside(rclone).uploads() == 0


@pytest_twisted.ensureDeferred
async def test_below_a_file(rclone: S3Account) -> None:
    """A service that has directories refuses a file below another: it is told why, and nothing of it stays."""
    BucketOutside(rclone).clear()
    async with opened(rclone) as pool:
        place = pool.at(Scope.DESTINATION)
        await put(place, "f", b"data")
        with pytest.raises(errors.ServerError, match="'f' is a file there"):
            await place.begin("f/below", UploadKey("1", "a")).store(b"new", replace=True, commit=lambda: None)
        upload = place.begin("f/below", UploadKey("1", "b"))
        with pytest.raises(errors.ServerError, match="'f' is a file there"):
            await write(upload, b"new")
        await upload.abort()
        assert await get(place, "f") == (0, b"data")
    assert BucketOutside(rclone).uploads() == 0


@pytest_twisted.ensureDeferred
async def test_both_a_file_and_a_directory(swift: S3Account) -> None:
    """A service without directories keeps a file and files below its name, each of which can be read."""
    BucketOutside(swift).clear()
    async with opened(swift) as pool:
        for name in ("d/f", "d", "d/f/below"):
            await put(pool.at(Scope.DESTINATION), name, name.encode())
        for name in ("d/f", "d", "d/f/below"):
            assert await get(pool.at(Scope.SOURCE), name) == (0, name.encode())


@pytest.mark.parametrize(
    ("secret", "url", "late", "kind", "words"),
    [
        ("wrong", BUCKET, 0, errors.AuthenticationFailed, "secret_key_file"),
        ("testing", "none", 0, errors.DestinationInvalid, "have it made"),
        ("testing", BUCKET, 3600, errors.AuthenticationFailed, "the clocks differ"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_cannot_begin(
    swift: S3Account,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    secret: str,
    url: str,
    late: float,
    kind: type[errors.DataMoverError],
    words: str,
) -> None:
    """A wrong secret, a bucket that is not there and a clock an hour off are told at the test of a destination."""
    file = tmp_path / "secret"
    file.write_text(secret)
    file.chmod(0o600)
    now = time.time
    monkeypatch.setattr("datamover.protocols.s3.service.time.time", lambda: now() + late)
    async with opened(swift, bucket=url, secret_key_file=str(file)) as pool:
        with pytest.raises(kind) as caught:
            await pool.connect()
        assert words in caught.value.full


@pytest_twisted.ensureDeferred
async def test_older_versions(swift: S3Account) -> None:
    """Where a bucket keeps older versions, what is wrong goes for good and the older is there again; no trial stays."""
    boto = swift.boto
    boto.create_bucket(Bucket="versions")
    boto.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    boto.put_object(Bucket="versions", Key="a/prefix/f", Body=b"old")

    async def wrong(origin: Origin) -> None:
        raise errors.ChecksumMismatch("it differs", scope=Scope.DESTINATION)

    async with opened(swift, bucket="versions") as pool:
        await pool.connect()
        upload = pool.at(Scope.DESTINATION).begin("f", UploadKey("1", "a"))
        await write(upload, b"new")
        with pytest.raises(errors.ChecksumMismatch):
            await upload.commit(replace=True, prove=wrong)
        assert await get(pool.at(Scope.SOURCE), "f") == (0, b"old")
        small = pool.at(Scope.DESTINATION).begin("g", UploadKey("1", "b"))
        await small.store(b"new", replace=True, commit=lambda: None)
        assert (await probe(pool, S3.abilities, reactor))["ok"]
    told = boto.list_object_versions(Bucket="versions")
    assert sorted(each["Key"] for each in told["Versions"]) == ["a/prefix/f", "a/prefix/g"]
    assert "DeleteMarkers" not in told


@pytest_twisted.ensureDeferred
async def test_unknown_key(rclone: S3Account) -> None:
    """A key that the service does not know is told as that."""
    async with opened(rclone, access_key_id="nobody") as pool:
        with pytest.raises(errors.AuthenticationFailed, match="does not know access_key_id"):
            await pool.connect()


@pytest_twisted.ensureDeferred
async def test_region_told(swift: S3Account) -> None:
    """A service that names the region to sign for is asked so from then on, though a HEAD was refused first."""
    BucketOutside(swift).clear()
    async with opened(swift, region="eu-west-1") as pool:
        assert await pool.at(Scope.SOURCE).inspect("f") is None
        await put(pool.at(Scope.DESTINATION), "f", b"data")
        assert await get(pool.at(Scope.SOURCE), "f") == (0, b"data")


@pytest_twisted.ensureDeferred
async def test_probed(swift: S3Account) -> None:
    """The test of a destination goes through, tells that conditions are honoured, and leaves nothing."""
    BucketOutside(swift).clear()
    async with opened(swift) as pool:
        told = await probe(pool, S3.abilities, reactor)
        assert told["ok"], told
        assert [step["step"] for step in told["steps"]][-4:] == ["write", "read", "replace", "delete"]
    assert BucketOutside(swift).names() == []
    assert BucketOutside(swift).uploads() == 0


@pytest_twisted.ensureDeferred
async def test_uploads_told(swift: S3Account) -> None:
    """Uploads that stand below the root are told, with their names; what a process left over its question goes."""
    BucketOutside(swift).clear()
    async with opened(swift) as pool:
        assert isinstance(pool, TellsUploads)
        assert await pool.unfinished_uploads() == []
        for key in ("a/prefix/d/f", "a/prefix-too/f"):
            swift.boto.create_multipart_upload(Bucket=BUCKET, Key=key)
        [told] = await pool.unfinished_uploads()
        assert told.path == "d/f"
        assert told.upload in told.sentence
    BucketOutside(swift, "a").clear()
