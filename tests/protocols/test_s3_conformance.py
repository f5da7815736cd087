"""The conformance suite over S3, against the strictest service and the laxest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.protocols.conformance import Conformance, Outside, Premises
from tests.protocols.s3 import BucketOutside, pool_of
from tests.servers.s3 import RcloneS3, S3Server, Swift


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A Swift for all tests of this module."""
    server = Swift(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


class S3Premises(Premises):
    """A prefix of a server's bucket, empty at first."""

    unit = 8 * 2**20

    def __init__(self, server: S3Server) -> None:
        self.pool = pool_of(server)
        self._outside = BucketOutside(server)

    @property
    def outside(self) -> Outside:
        return self._outside


class TestSwift(Conformance):
    @pytest.fixture
    def premises(self, swift: S3Server) -> Iterator[Premises]:
        BucketOutside(swift).clear()
        premises = S3Premises(swift)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


class TestRclone(Conformance):
    @pytest.fixture
    def premises(self, tmp_path: Path) -> Iterator[Premises]:
        server = RcloneS3(tmp_path)
        server.start()
        premises = S3Premises(server)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
        server.stop()
