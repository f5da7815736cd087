"""The conformance suite over WebDAV, against Apache, nginx, lighttpd and wsgidav."""

import os
import time
from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from datamover import errors
from datamover.protocols.place import Place
from tests.protocols.conformance import KEY, MIB, Conformance, Outside, Premises, arrive, get, put
from tests.protocols.dav import DavDisk, DavPremises, premises_on
from tests.protocols.part_files import PART, DiskPremises, PartFileConformance, fill, give_name
from tests.servers.cloud import Cloud
from tests.servers.dav import Apache, DavServer, Lighttpd, NginxDav, WsgiDav, give, running
from tests.waiting import until


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
def lighttpd() -> Iterator[DavServer]:
    """A lighttpd for all tests of this module."""
    with running(Lighttpd) as server:
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
    """The suite without symbolic links, which servers follow or not."""

    test_links_out_of_the_root = test_links_within_the_root = None

    @pytest_twisted.ensureDeferred
    async def test_directories_and_modes(self, premises: DiskPremises) -> None:
        """Missing directories are made, for the part and for the target."""
        assert await fill(premises.parts, f"x/y/{PART}", b"data") == 4
        await give_name(premises.parts, f"x/y/{PART}", "x/new/er/file.bin", replace=False)
        assert (premises.root / "x/new/er/file.bin").read_bytes() == b"data"

    @pytest_twisted.ensureDeferred
    async def test_replaced_as_it_was_found(self, premises: DiskPremises) -> None:
        """A file replaces only the file that it was compared with, and not what somebody else wrote meanwhile."""
        await premises.pool.connect()
        upload, _ = await arrive(premises.writing, "file.bin", b"new")
        premises.outside.lay("file.bin", b"of another")
        with pytest.raises(errors.DestinationExists) as caught:
            await upload.commit(replace=True, over="")
        assert caught.value.retryable
        there = (await premises.reading.origin("file.bin").inspect()).identity
        premises.outside.lay("file.bin", b"of a third one")
        with pytest.raises(errors.DestinationExists) as caught:
            await upload.commit(replace=True, over=there)
        assert caught.value.retryable
        assert premises.outside.read("file.bin") == b"of a third one"
        await upload.commit(replace=True, over=(await premises.reading.origin("file.bin").inspect()).identity)
        assert premises.outside.read("file.bin") == b"new"
        assert premises.outside.names() == ["file.bin"]

    @pytest_twisted.ensureDeferred
    async def test_what_trying_left(self, premises: DiskPremises) -> None:
        """A directory for trials that a crash left is removed when it is an hour old, and nothing similar."""
        now, old = time.time(), 3700
        left = {f"datamover-probe-{'0' * 15}{number}": old for number in range(5)}
        left |= {f"datamover-probe-{'0' * 15}": old, f"datamover-probe-{'A' * 16}": old}
        left[f"datamover-probe-{'0' * 15}1"] = 3000
        for name in left:
            lay_directory(premises, name)
            premises.outside.lay(f"{name}/b", b"")
        names = list(left)
        premises.outside.lay(f"{names[2]}/mine", b"somebody's")
        lay_directory(premises, f"{names[3]}/below")
        premises.outside.lay(f"datamover-probe-{'f' * 16}", b"")
        for path in premises.root.rglob("*"):
            age = left.get(path.relative_to(premises.root).parts[0], old)
            os.utime(path, (now - age, now - age))
        await premises.pool.connect()
        gone = {names[0], names[4]}
        await until(lambda: gone.isdisjoint(premises.outside.names()))
        assert set(premises.outside.names()) == {*left, f"datamover-probe-{'f' * 16}"} - gone
        assert premises.outside.read(f"{names[2]}/mine") == b"somebody's"


class TestApache(DavConformance):
    @pytest.fixture
    def premises(self, apache: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(apache))


class TestNginx(DavConformance):
    @pytest.fixture
    def premises(self, nginx: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(nginx, tells=False))


class TestLighttpd(DavConformance):
    @pytest.fixture
    def premises(self, lighttpd: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(lighttpd, tells=False))


class TestWsgiDav(DavConformance):
    @pytest.fixture
    def premises(self, wsgidav: DavServer) -> Iterator[DavPremises]:
        yield from closing(premises_on(wsgidav, times=True, tells=False))

    @pytest_twisted.ensureDeferred
    async def test_names(self, premises: Premises) -> None:
        """A name that the server would misread in a Destination is refused; any other is written and read."""
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
    """A collection of a cloud, empty at first; files above 5 MiB or of unknown size are sent in chunks."""

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


def lay_directory(premises: DiskPremises, path: str) -> None:
    (premises.root / path).mkdir()
    give(premises.root / path)


async def store(place: Place, path: str, data: bytes) -> None:
    await place.begin(path, KEY).store(data, replace=False, commit=lambda: None)


def closing(premises: DavPremises) -> Iterator[DavPremises]:
    yield premises
    pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
