"""The conformance suite over WebDAV, against Apache, nginx and wsgidav."""

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from datamover import errors
from datamover.protocols.place import Place
from tests.protocols.conformance import KEY, MIB, Conformance, Outside, Premises, get, put
from tests.protocols.dav import DavDisk, DavPremises, premises_on
from tests.protocols.part_files import PART, DiskPremises, PartFileConformance, fill, give_name
from tests.servers.cloud import Cloud
from tests.servers.dav import Apache, DavServer, NginxDav, WsgiDav, running


@pytest.fixture(scope="module")
def apache() -> Iterator[DavServer]:
    """An Apache for all tests of this module."""
    with running(Apache) as server:
        yield server


@pytest.fixture(scope="module")
def nginx() -> Iterator[DavServer]:
    """An nginx for all tests of this module."""
    with running(NginxDav) as server:
        yield server


@pytest.fixture(scope="module")
def wsgidav() -> Iterator[DavServer]:
    """A wsgidav for all tests of this module."""
    with running(WsgiDav) as server:
        yield server


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A server that speaks Nextcloud's protocol, for all tests of this module."""
    with running(Cloud) as server:
        assert isinstance(server, Cloud)
        yield server


class DavConformance(PartFileConformance):
    """The suite, but for symbolic links, which the server follows or not as it likes."""

    test_links_out_of_the_root = test_links_within_the_root = None

    @pytest_twisted.ensureDeferred
    async def test_directories_and_modes(self, premises: DiskPremises) -> None:
        """Missing directories are made, for the part and for the target."""
        assert await fill(premises.parts, f"x/y/{PART}", b"data") == 4
        await give_name(premises.parts, f"x/y/{PART}", "x/new/er/file.bin", replace=False)
        assert (premises.root / "x/new/er/file.bin").read_bytes() == b"data"


class TestApache(DavConformance):
    @pytest.fixture
    def premises(self, apache: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(apache))


class TestNginx(DavConformance):
    @pytest.fixture
    def premises(self, nginx: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(nginx, tells=False))


class TestWsgiDav(DavConformance):
    @pytest.fixture
    def premises(self, wsgidav: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(wsgidav, times=True, tells=False))

    @pytest_twisted.ensureDeferred
    async def test_names(self, premises: Premises) -> None:
        """A name that the server would misread in a Destination is refused; any other goes there and back."""
        for name in ("a?b", "a;b", "100%41", "#1"):
            for way in (put, store):
                with pytest.raises(errors.DestinationInvalid, match="the server misreads"):
                    await way(premises.writing, name, b"data")
        assert premises.outside.names() == []
        names = ["Ünïcode ☃ 𝛼.csv", " two  spaces ", "*[x]\\'\"$(y)&|<>~", "-rf", "n" * 255, "é" * 127]
        for name in names:
            await put(premises.writing, f"d/{name}", name.encode())
        assert sorted(await premises.reading.list("d")) == premises.outside.names("d") == sorted(names)
        for name in names:
            assert await get(premises.reading, f"d/{name}") == (0, name.encode())


class CloudPremises(Premises):
    """A collection of a cloud, empty at first; what is larger than 5 MiB, or of no known size, goes in chunks."""

    unit = 6 * MIB

    def __init__(self, server: Cloud) -> None:
        premises = premises_on(server, chunk_size="5MiB")
        self.pool = premises.pool
        self._outside = DavDisk(premises.root, hides=False, chunked=server.uploads)

    @property
    def outside(self) -> Outside:
        return self._outside


class TestCloud(Conformance):
    @pytest.fixture
    def premises(self, cloud: Cloud) -> Iterator[CloudPremises]:
        premises = CloudPremises(cloud)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
        assert cloud.chunks() == []

    test_names = TestWsgiDav.test_names


async def store(place: Place, path: str, data: bytes) -> None:
    await place.begin(path, KEY).store(data, replace=False, commit=lambda: None)


def closing(premises: DavPremises) -> Iterator[DavPremises]:
    yield premises
    pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
