"""The original's ``move`` with ``swift+http://`` and ``swift+https://``, to and from a real Swift, over XML-RPC."""

import hashlib
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest

from tests.protocols.swift import ContainerOutside
from tests.servers import postgres
from tests.servers.path import Path as Proxy
from tests.servers.path import path_to
from tests.servers.service import Service
from tests.servers.swift import CONTAINER, SwiftServer

KIB = 1024
LARGE = bytes(range(256)) * 12 * KIB
"""More than a plain object of the destinations may have."""


@pytest.fixture(scope="module")
def ceph(swift: SwiftServer) -> Iterator[Proxy]:
    """The same, at the addresses that Ceph's gateway has by default: none tells the account."""
    with path_to(swift.port) as proxy:
        proxy.alter(b" /swift/v1/", b" %s/" % swift.account.encode())
        yield proxy


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, swift: SwiftServer, ceph: Proxy) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    (directory / "disk").mkdir()
    swift.ask("PUT", "other")
    options = {**swift.options, "part_size": "1MiB"}
    at_ceph = {**options, "storage_url": f"http://127.0.0.1:{ceph.port}/swift/v1"}
    tables = {
        "disk": {"url": (directory / "disk").as_uri()},
        "whole": {"url": f"swift://{CONTAINER}", **options},
        "deep": {"url": f"swift://{CONTAINER}/a/deep", **options},
        "ceph": {"url": "swift://gateway", **at_ceph},
    }
    text = "".join(
        f"[destinations.{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items())
        for name, table in tables.items()
    )
    service = Service(directory, f'[database]\nurl = "{postgres.shared().fresh()}"\n{text}')
    service.start()
    yield service
    service.stop()


def moved(service: Service, *call: Any) -> dict[str, Any]:
    """Call ``move`` and ask, as its clients do, until it has ended."""
    answer = service.proxy.move(*call)
    assert answer.keys() == {"id", "status"}, answer
    ended = service.ended(answer["id"])
    told: dict[str, Any] = service.proxy.checkMoveStatus(answer["id"])
    assert ended["status"] == told["status"], told
    return told


def test_there_and_back(service: Service, swift: SwiftServer) -> None:
    """Objects move from and to a container by their URLs; a large one leaves no segment of what it replaces."""
    disk = service.directory / "disk"
    (disk / "large").write_bytes(LARGE)
    host = f"127.0.0.1:{swift.port}"
    whole, deep = ContainerOutside(swift, "x"), ContainerOutside(swift, "a/deep")

    for source, destination in [
        ("scp://disk/large", f"swift+http://{host}/{CONTAINER}/x/f"),
        (f"swift+http://{host}{swift.account}/{CONTAINER}/x/f", f"swift+https://127.0.0.1/{CONTAINER}/x/into/"),
        (f"swift+http://test%3Atester@127.0.0.1/{CONTAINER}/x/into/f", f"swift+http://{host}/{CONTAINER}/x/into"),
        (f"swift+http://whole/{CONTAINER}/x/into/f", f"SWIFT+HTTP://{host}/v1/AUTH_test/{CONTAINER}/a/deep/g%20ü"),
        ({"type": "scp", "host": "deep", "path": "g ü"}, {"host": "disk", "path": "/back"}),
        (f"swift+http://{host}/{CONTAINER}/a/deep/g%20%C3%BC", "scp://disk/again"),
    ]:
        assert moved(service, source, destination)["status"] == "COMPLETED", source

    assert whole.read("f") == whole.read("into/f") == deep.read("g ü") == LARGE
    assert (disk / "back").read_bytes() == (disk / "again").read_bytes() == LARGE
    (disk / "large").write_bytes(b"small")
    assert moved(service, "scp://disk/large", f"swift+http://{host}/{CONTAINER}/x/f")["status"] == "COMPLETED"
    assert whole.read("f") == b"small"
    assert ContainerOutside(swift, "").uploads() == 0


def test_zip_of_several(service: Service, swift: SwiftServer) -> None:
    """Objects and files arrive in a container as one archive, as the original made it."""
    ContainerOutside(swift, "in").lay("a.tif", b"object")
    (service.directory / "disk" / "b.tif").write_bytes(b"file")
    sources = [f"swift+http://127.0.0.1/{CONTAINER}/in/a.tif", "scp://disk/b.tif"]
    told = moved(service, sources, f"swift+http://127.0.0.1/{CONTAINER}/zips/", True)
    assert told["status"] == "COMPLETED", told
    archive = ContainerOutside(swift, "zips").read(f"move-job-{told['id']}.zip")
    assert archive is not None
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        [manifest] = [name for name in opened.namelist() if name.endswith("manifest-md5.txt")]
        lines = opened.read(manifest).decode().splitlines()
    assert lines == [
        f"{hashlib.md5(data).hexdigest()} data/{name}" for name, data in (("a.tif", b"object"), ("b.tif", b"file"))
    ]
    assert moved(service, sources, f"swift+http://127.0.0.1/{CONTAINER}/both")["status"] == "COMPLETED"
    assert ContainerOutside(swift, "both").names() == ["a.tif", "b.tif"]


def test_storage_without_an_account(service: Service, swift: SwiftServer, ceph: Proxy) -> None:
    """Where the storage's URL tells no account, as Ceph's does, URLs are read with and without its path."""
    disk = service.directory / "disk"
    (disk / "ceph").write_bytes(LARGE)
    for number, path in enumerate(("/swift/v1/gateway/f", "/gateway/f")):
        assert moved(service, "scp://disk/ceph", f"swift+http://127.0.0.1{path}")["status"] == "COMPLETED"
        assert moved(service, f"swift+http://ceph{path}", f"scp://disk/{number}")["status"] == "COMPLETED"
        assert (disk / f"{number}").read_bytes() == LARGE
    assert swift.names("gateway") == ["f"]


def test_refused(service: Service, swift: SwiftServer) -> None:
    """What no destination has is refused at once in the original's words; what is not there is told by the job."""
    (service.directory / "disk" / "f").write_bytes(b"f")
    for call, reason in [
        (("swift+http://127.0.0.1/other/f", "scp://disk/f"), "Unknown source '127.0.0.1'"),
        ((f"swift+http://192.0.2.1/{CONTAINER}/f", "scp://disk/f"), "Unknown source '192.0.2.1'"),
        (("scp://disk/f", "swift+http://127.0.0.1/v1/AUTH_other/other/f"), "Unknown destination '127.0.0.1'"),
        (
            ("scp://disk/f", f"swift+http://tester:testing@127.0.0.1/{CONTAINER}/f"),
            "Invalid parameter 'destination must not hold a password: leave it out'",
        ),
    ]:
        assert service.proxy.move(*call) == {"status": "REJECTED", "reason": reason}
    told = moved(service, f"swift+http://127.0.0.1/{CONTAINER}/none", "scp://disk/none")
    assert told["status"] == "FAILED"
    assert told["reason"].startswith(f"Move has failed for job with id {told['id']}. Reason: ")
    assert "'none' does not exist" in told["reason"]


def test_long_names(service: Service, swift: SwiftServer) -> None:
    """Objects may have names that no file system takes; a disk's own bound is told, and nothing stays there."""
    disk, name = service.directory / "disk", "ü" * 300
    (disk / "short").write_bytes(b"data")
    host = f"127.0.0.1:{swift.port}"
    named = f"swift+http://{host}/{CONTAINER}/x/{quote(name)}"
    assert moved(service, "scp://disk/short", named)["status"] == "COMPLETED"
    assert ContainerOutside(swift, "x").read(name) == b"data"
    assert moved(service, named, "scp://disk/again")["status"] == "COMPLETED"
    assert (disk / "again").read_bytes() == b"data"
    (disk / "sub").mkdir()
    told = moved(service, named, "scp://disk/sub/")
    assert told["status"] == "FAILED"
    assert "name" in told["reason"], told
    assert list((disk / "sub").iterdir()) == []
    assert "a name of more than 255 bytes" in service.proxy.move(named, f"scp://disk/{name}")["reason"]
