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
from datamover.protocols.place import TellsUploads
from datamover.protocols.s3 import S3
from datamover.protocols.upload import UploadKey
from datamover.registry.probe import probe
from tests.protocols.conformance import Premises, get, put
from tests.protocols.s3 import BucketOutside, S3Conformance, S3Premises, opened
from tests.servers.s3 import BUCKET, RcloneS3, S3Server, Swift


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A Swift for all tests of this module."""
    server = Swift(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An rclone for all tests of this module."""
    server = RcloneS3(tmp_path_factory.mktemp("rclone"))
    server.start()
    yield server
    server.stop()


class TestSwift(S3Conformance):
    @pytest.fixture
    def premises(self, swift: S3Server) -> Iterator[Premises]:
        BucketOutside(swift).clear()
        premises = S3Premises(swift)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


class TestRclone(S3Conformance):
    @pytest.fixture
    def premises(self, rclone: S3Server) -> Iterator[Premises]:
        BucketOutside(rclone).clear()
        premises = S3Premises(rclone)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


# What is not of every protocol --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_keys(swift: S3Server) -> None:
    """Names of all that S3 takes go there and back, two that differ by case or by their Unicode form apart."""
    BucketOutside(swift).clear()
    names = [
        "a+b",
        "%2F",
        "a&b=c?d#e",
        "line\nbreak",
        "back\\slash",
        "é",
        "e\u0301",
        "Case",
        "case",
        "…",
        "~.",
    ]
    async with opened(swift) as pool:
        reading, writing = pool.at(Scope.SOURCE), pool.at(Scope.DESTINATION)
        for name in names:
            await put(writing, f"d/{name}", name.encode())
        assert BucketOutside(swift).names("d") == await reading.list("d") == sorted(names)
        for name in names:
            assert await get(reading, f"d/{name}") == (0, name.encode())


@pytest_twisted.ensureDeferred
async def test_key_too_long(swift: S3Server) -> None:
    """A key of more bytes than the service takes is refused in words, and nothing is left of it."""
    async with opened(swift) as pool:
        upload = pool.at(Scope.DESTINATION).begin("é" * 512, UploadKey("1", "a"))
        with pytest.raises(errors.DestinationInvalid, match="more bytes than the service takes"):
            await upload.open()
        await upload.close()


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
    swift: S3Server,
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
async def test_probed(swift: S3Server) -> None:
    """The test of a destination goes through, tells that conditions are honoured, and leaves nothing."""
    BucketOutside(swift).clear()
    async with opened(swift) as pool:
        told = await probe(pool, S3.abilities, reactor)
        assert told["ok"], told
        assert [step["step"] for step in told["steps"]][-4:] == ["write", "read", "replace", "delete"]
    assert BucketOutside(swift).names() == []
    assert BucketOutside(swift).uploads() == 0


@pytest_twisted.ensureDeferred
async def test_uploads_told(swift: S3Server) -> None:
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
