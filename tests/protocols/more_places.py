"""The conformance suite over services that need more than the suite installs: ``make places`` runs them."""

import os
from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.errors import AuthenticationFailed, Scope
from datamover.protocols.s3 import S3
from datamover.protocols.swift import SWIFT
from datamover.protocols.upload import UploadKey
from datamover.registry.probe import probe
from tests.protocols.conformance import Premises, content, get, put
from tests.protocols.object_store import ObjectStoreConformance
from tests.protocols.s3 import BucketOutside, S3Conformance, S3Premises, opened
from tests.protocols.swift import ContainerOutside, SwiftPremises
from tests.protocols.swift import opened as opened_swift
from tests.servers.ceph import Ceph, CephSwift
from tests.servers.openstack import KeystoneSwift
from tests.servers.s3 import S3Server
from tests.servers.swift import CONTAINER


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = Ceph(tmp_path_factory.mktemp("ceph"))
    server.start()
    yield server
    server.stop()


class TestCeph(S3Conformance):
    removes = None

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


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephSwift]:
    """Ceph's gateway as a Swift: no conditions, no manifests shown, empty copies of large objects."""
    server = CephSwift(tmp_path_factory.mktemp("gateway"))
    server.start()
    yield server
    server.stop()


class TestCephSwift(ObjectStoreConformance):
    @pytest.fixture(params=["64MiB", "1MiB"])
    def premises(self, gateway: CephSwift, request: pytest.FixtureRequest) -> Iterator[Premises]:
        gateway.clear()
        premises = SwiftPremises(gateway, part_size=request.param)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


@pytest_twisted.ensureDeferred
async def test_ceph_large_objects(gateway: CephSwift) -> None:
    """Large objects are whole, told from others, and take their segments with them when they go."""
    gateway.clear()
    outside = ContainerOutside(gateway)
    async with opened_swift(gateway, part_size="1MiB") as pool:
        told = await probe(pool, SWIFT.abilities, reactor)
        assert told["ok"], told
        place = pool.at(Scope.DESTINATION)
        for number, size in enumerate((3 * 2**20, 4 * 2**20, 5)):
            data = os.urandom(size)
            await put(place, "f", data, replace=True, key=UploadKey(f"{number}", "c"))
            assert outside.read("f") == data
            assert len({name.rpartition("/")[0] for name in outside.segments()}) == (size > 5)
        await put(place, "g", content(3 * 2**20), key=UploadKey("9", "c"))
        await place.remove("g")
    assert outside.segments() == set()
    assert outside.names() == ["f"]


@pytest.fixture(scope="module")
def openstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeystoneSwift]:
    server = KeystoneSwift(tmp_path_factory.mktemp("openstack"))
    server.start()
    yield server
    server.stop()


@pytest_twisted.ensureDeferred
async def test_keystone(openstack: KeystoneSwift) -> None:
    """With the tokens of a real Keystone a destination passes its test, and a large file goes there and back."""
    async with opened_swift(openstack, part_size="1MiB") as pool:
        told = await probe(pool, SWIFT.abilities, reactor)
        assert told["ok"], told
        await put(pool.at(Scope.DESTINATION), "large", content(3 * 2**20))
        assert await get(pool.at(Scope.SOURCE), "large") == (0, content(3 * 2**20))
        await pool.at(Scope.DESTINATION).remove("large")
    assert openstack.names() == openstack.names(f"{CONTAINER}_segments") == []


@pytest_twisted.ensureDeferred
async def test_keystone_application_credential(openstack: KeystoneSwift) -> None:
    """An application credential of a user logs in, and its keys are named when it has been removed."""
    options = openstack.application_credential()
    async with opened_swift(openstack, **options) as pool:
        await put(pool.at(Scope.DESTINATION), "f", b"data")
        await pool.at(Scope.DESTINATION).remove("f")
    openstack.keystone.remove_credential(options["application_credential_id"])
    async with opened_swift(openstack, **options) as pool:
        with pytest.raises(AuthenticationFailed) as caught:
            await pool.connect()
        assert "application_credential_id" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_keystone_domains_and_endpoints(openstack: KeystoneSwift) -> None:
    """A user of another domain than the project's logs in; of several regions and interfaces the table names one."""
    openstack.keystone.add_user("Visitors", "guest")
    storage = f"{openstack.endpoint}/v1/AUTH_%(project_id)s"
    for interface, region in (("internal", "here"), ("public", "there")):
        openstack.keystone.add_endpoint(interface, region, storage if region == "here" else "http://192.0.2.1/")
    guest = {"username": "guest", "user_domain": "Visitors"}
    for options in (
        {"region": "here", **guest},
        {"interface": "internal"},
        {"region": "here", "interface": "internal"},
    ):
        async with opened_swift(openstack, **options) as pool:
            await put(pool.at(Scope.DESTINATION), "f", b"data")
            await pool.at(Scope.DESTINATION).remove("f")
    for options, words in (
        (guest, "in the regions here, there; set region"),
        ({"region": "there"}, "set storage_url"),
        ({"interface": "admin"}, "there is internal, public"),
    ):
        async with opened_swift(openstack, **options) as pool:
            with pytest.raises(AuthenticationFailed) as caught:
                await pool.connect()
            assert words in caught.value.full


@pytest.mark.parametrize("options", [{"project": "other"}, {"domain": "Other"}, {"region": "there"}])
@pytest_twisted.ensureDeferred
async def test_keystone_refuses(openstack: KeystoneSwift, options: dict[str, str]) -> None:
    """Another project, domain or region than Keystone knows is told at the test of a destination."""
    async with opened_swift(openstack, **options) as pool:
        with pytest.raises(AuthenticationFailed):
            await pool.connect()
