"""The conformance suite over services that need more than the suite installs: ``make places`` runs them."""

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.s3 import S3
from datamover.registry.probe import probe
from tests.protocols.conformance import Premises
from tests.protocols.s3 import BucketOutside, S3Conformance, S3Premises, opened
from tests.servers.ceph import Ceph
from tests.servers.s3 import S3Server


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = Ceph(tmp_path_factory.mktemp("ceph"))
    server.start()
    yield server
    server.stop()


class TestCeph(S3Conformance):
    @pytest.fixture
    def premises(self, ceph: S3Server) -> Iterator[Premises]:
        BucketOutside(ceph).clear()
        premises = S3Premises(ceph)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


@pytest_twisted.ensureDeferred
async def test_probed(ceph: S3Server) -> None:
    """The test of a destination goes through, and leaves nothing."""
    BucketOutside(ceph).clear()
    async with opened(ceph) as pool:
        told = await probe(pool, S3.abilities, reactor)
        assert told["ok"], told
    assert BucketOutside(ceph).names() == []
    assert BucketOutside(ceph).uploads() == 0
