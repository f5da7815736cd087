"""The engine over a real Swift: large files in segments, small ones, groups, and containers as sources."""

import pathlib
import zipfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.engine import maintenance
from datamover.engine.transfer.pipe import CHECKPOINT_BYTES
from datamover.jobs import work
from datamover.jobs.values import Overwrite, State
from tests.engine.rig import Rig, file, large, place, random_bytes, url
from tests.engine.test_groups import NAMES, Letters, files
from tests.engine.test_keep_free import DISK, Gated
from tests.engine.test_object_store import die_midway
from tests.engine.test_shared_room import shared
from tests.protocols.swift import SEGMENTS, ContainerOutside
from tests.servers.path import Path, path_to
from tests.servers.swift import CONTAINER, SwiftServer
from tests.servers.web import File, Web
from tests.waiting import until

MIB = 2**20
big = partial(large, 72 * MIB)
middle = partial(large, 40 * MIB)
"""What goes to "slow", is interrupted when a checkpoint of 16 MiB is known, and goes on at full speed."""


@pytest.fixture
def path(swift: SwiftServer) -> Iterator[Path]:
    """What lies between the engine and the service, for the destination "far"."""
    with path_to(swift.port) as path:
        yield path


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: pathlib.Path, swift: SwiftServer, path: Path) -> Any:
    swift.clear()
    storage = f"http://127.0.0.1:{path.port}{swift.account}"
    password = tmp_path / "password"
    password.write_text(swift.key)
    password.chmod(0o600)
    rig = await Rig(reactor, tmp_path).open(
        {
            "in": {"url": f"swift://{CONTAINER}/in", **swift.options},
            "far": {"url": f"swift://{CONTAINER}/far", **swift.options, "storage_url": storage},
            "slow": {"url": f"swift://{CONTAINER}/slow", "bandwidth": "10MB/s", **swift.options},
            "checked": {"url": f"swift://{CONTAINER}/checked", "verify": "read-back", **swift.options},
            "parts": {"url": f"swift://{CONTAINER}/parts", "part_size": "5MiB", **swift.options},
            "locked": {
                "url": f"swift://{CONTAINER}/locked",
                "part_size": "5MiB",
                **swift.options,
                "password_file": str(password),
            },
            "archive": {"url": "swift://new", **swift.options},
            "disk": {"url": (tmp_path / "disk").as_uri()},
        },
        transfers={"max_attempts": 3, "idle_timeout": "20s"},
    )
    yield rig
    await rig.close()


@pytest_twisted.ensureDeferred
async def test_there_and_back(rig: Rig, web: Web, swift: SwiftServer, tmp_path: pathlib.Path) -> None:
    """A large file goes into a container in segments, with its time, and from there to a disk."""
    web.route("/f", File(big(), etag='"1"', modified=1_700_000_000.0))
    await rig.engine()
    job, told = await rig.moved(file(url(f"{web.url}/f"), "checked", "dir/f"))
    assert job.state is State.COMPLETED, told
    outside = ContainerOutside(swift, "checked")
    assert outside.read("dir/f") == big()
    assert outside.head("dir/f")["x-static-large-object"] == "True"
    assert outside.uploads() == 0

    job, told = await rig.moved(file(place("checked", "dir/f"), "disk", "f"))
    assert job.state is State.COMPLETED, told
    assert (tmp_path / "disk/f").read_bytes() == big()
    assert (tmp_path / "disk/f").stat().st_mtime == 1_700_000_000.0


@pytest_twisted.ensureDeferred
async def test_resumed_by_another_node(rig: Rig, web: Web, swift: SwiftServer) -> None:
    """A node that dies midway is followed by one that goes on with the segments that the service has."""
    web.route("/f", File(middle(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    job = await die_midway(rig, ask, rig.saved)
    await rig.engine()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert ContainerOutside(swift, "slow").read("f") == middle()
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["from"] >= CHECKPOINT_BYTES
    assert ContainerOutside(swift, "slow").uploads() == 0


@pytest.mark.parametrize("old", [3, 72 * MIB])
@pytest.mark.parametrize("size", [5, MIB])
@pytest_twisted.ensureDeferred
async def test_overwrite(rig: Rig, web: Web, swift: SwiftServer, size: int, old: int) -> None:
    """What is there is left where nothing may be replaced, and replaced, with its segments, where that is asked for."""
    outside, new = ContainerOutside(swift, "in"), random_bytes(size)
    await rig.engine()
    web.route("/old", File(large(old), etag='"0"'))
    web.route("/f", File(new, etag='"1"'))
    await rig.moved(file(url(f"{web.url}/old"), "in", "f"))
    _, [told] = await rig.moved(file(url(f"{web.url}/f"), "in", "f"), overwrite=Overwrite.NEVER)
    assert (told.error and told.error["code"]) == "DESTINATION_EXISTS"
    assert outside.read("f") == large(old)
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "in", "f"), overwrite=Overwrite.ALWAYS)
    assert job.state is State.COMPLETED, told.error
    assert outside.read("f") == new
    assert outside.names() == ["f"]
    assert outside.segments() == set()


@pytest_twisted.ensureDeferred
async def test_cancelled(rig: Rig, web: Web, swift: SwiftServer) -> None:
    """A transfer that is cancelled midway leaves nothing."""
    web.route("/f", File(middle(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await until(rig.saved)
    await rig.store.cancel(job)
    assert (await rig.ended(job)).state is State.CANCELLED
    outside = ContainerOutside(swift, "slow")
    assert outside.segments() == set()
    assert outside.names() == []


@pytest_twisted.ensureDeferred
async def test_left_by_a_node_that_told_nobody(rig: Rig, web: Web, swift: SwiftServer) -> None:
    """Segments of a node that died over them, before it told of them, are swept, and no others."""
    web.route("/f", File(middle(), etag='"1"'))
    outside = ContainerOutside(swift, "slow")

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "dir/f"))

    job = await die_midway(rig, ask, outside.segments)
    left = outside.segments()
    swift.ask("PUT", f"{CONTAINER}_segments", "another/f/00000001", body=b"another's")
    web.route("/f", File(b"another", etag='"2"'))
    await rig.engine()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert outside.read("dir/f") == b"another"
    assert left
    assert outside.segments() == {"another/f/00000001"}


@pytest_twisted.ensureDeferred
async def test_dataset_and_archive(rig: Rig, web: Web, swift: SwiftServer) -> None:
    """A dataset's files, and an archive of files of a container and of the web, go into a container that is made."""
    web.route("/letters", File(b"abc", etag='"1"'))
    rig.datasets["letters"] = Letters(rig, web)
    await rig.engine()
    job, _ = await rig.moved(*files())
    assert job.state is State.COMPLETED, job.error
    assert swift.names("new") == sorted(f"set/{name}" for name in NAMES)

    contents = {"one": random_bytes(MIB), "two": random_bytes(6 * MIB)}
    ContainerOutside(swift, "in").lay("one", contents["one"])
    web.route("/two", File(contents["two"], etag='"1"'))
    target = ("archive", "all.zip")
    job, _ = await rig.moved(file(place("in", "one"), *target), file(url(f"{web.url}/two"), *target), archive="zip")
    assert job.state is State.COMPLETED, job.error
    _, _, body = swift.ask("GET", "new", "all.zip")
    with zipfile.ZipFile(BytesIO(body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    assert swift.names("new_segments") == []


@pytest_twisted.ensureDeferred
async def test_cut(rig: Rig, web: Web, swift: SwiftServer, path: Path) -> None:
    """Where the service cuts every connection midway, the file arrives nevertheless, whole and once."""
    web.route("/f", File(big(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "far", "f"))
    await until(lambda: path.sent > 20 * MIB)
    path.cut()
    swift.forget_tokens()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    outside = ContainerOutside(swift, "far")
    assert outside.read("f") == big()
    assert outside.uploads() == 0


@pytest.mark.parametrize("of", ["container", "account"])
@pytest_twisted.ensureDeferred
async def test_shared_room(tmp_path: pathlib.Path, web: Web, swift: SwiftServer, of: str) -> None:
    """Destinations in one container share its quota, and those of all containers that of their account."""
    swift.clear()
    swift.ask("PUT", "second")
    if of == "account":
        swift.set_account_quota(str(DISK))
    else:
        swift.ask("POST", CONTAINER, headers={"X-Container-Meta-Quota-Bytes": str(DISK)})
    gate = Gated(random_bytes(30 * MIB))
    web.route("/gated", gate)
    one = {"url": f"swift://{CONTAINER}/one", **swift.options}
    two = {"url": f"swift://{'second' if of == 'account' else CONTAINER}/two", **swift.options}
    try:
        await shared(tmp_path, web, gate, one, two, lambda: swift.ask("DELETE", CONTAINER, "one/gated"))
    finally:
        gate.open = True
        swift.clear()


@pytest_twisted.ensureDeferred
async def test_quota(rig: Rig, web: Web, swift: SwiftServer) -> None:
    """A file that a quota leaves no room for is not begun, and nothing of it is there."""
    swift.ask("POST", CONTAINER, headers={"X-Container-Meta-Quota-Bytes": str(MIB)})
    web.route("/f", File(big(), etag='"1"'))
    await rig.engine()
    _, [told] = await rig.moved(file(url(f"{web.url}/f"), "in", "f"), max_attempts=1)
    assert (told.error and told.error["code"]) == "NO_SPACE"
    assert ContainerOutside(swift, "in").names() == []
    assert ContainerOutside(swift, "in").segments() == set()


@pytest.mark.parametrize("of", ["segments", "account"])
@pytest_twisted.ensureDeferred
async def test_quota_met_midway(rig: Rig, web: Web, swift: SwiftServer, of: str) -> None:
    """A quota of the segments' container or the account that is met midway is told, and nothing is left."""
    gate = Gated(random_bytes(24 * MIB))
    web.route("/f", gate)
    outside = ContainerOutside(swift, "parts")
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "parts", "f"), max_attempts=1)
    await until(outside.segments)
    if of == "segments":
        swift.ask("POST", SEGMENTS, headers={"X-Container-Meta-Quota-Bytes": "1"})
    else:
        swift.set_account_quota("1")
    gate.open = True
    record = await rig.ended(job)
    assert record.error is not None
    assert (record.state, record.error["code"]) == (State.FAILED, "NO_SPACE")
    assert record.error["message"] == (
        "destination 'parts': a quota of its container, of its segments' container or of its account is used up; "
        "raise it or free space"
    )
    await until(lambda: not outside.segments())
    assert outside.names() == []


@pytest_twisted.ensureDeferred
async def test_refused_midway(rig: Rig, web: Web, swift: SwiftServer) -> None:
    """A service that cannot store for a while is tried again, and the upload goes on with the segments it has."""
    gate = Gated(random_bytes(24 * MIB))
    web.route("/f", gate)
    outside = ContainerOutside(swift, "parts")
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "parts", "f"), max_attempts=1000)
    await until(outside.segments)
    with swift.without_objects():
        gate.open = True

        async def failed() -> bool:
            return (await rig.store.job(job)).error is not None

        await until(failed)
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert record.first_error is not None
    assert record.first_error["code"] == "SERVER_ERROR"
    assert "could not do it (503)" in record.first_error["message"]
    assert outside.read("f") == gate.content
    assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_locked_out_midway(
    rig: Rig, web: Web, swift: SwiftServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a login's password is changed midway, the job says what to look at; what it left goes when it is right."""
    monkeypatch.setattr(work, "SWEEPING", 0.5)
    monkeypatch.setattr(maintenance, "LOOKING", 0.5)
    gate = Gated(random_bytes(24 * MIB))
    web.route("/f", gate)
    outside = ContainerOutside(swift, "locked")
    password = tmp_path / "password"
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "locked", "f"))
    await until(outside.segments)
    password.write_text("changed")
    swift.forget_tokens()
    gate.open = True
    record = await rig.ended(job)
    assert record.error is not None
    assert (record.state, record.error["code"]) == (State.FAILED, "AUTHENTICATION_FAILED")
    assert outside.segments()
    password.write_text(swift.key)
    await until(lambda: not outside.segments())
    assert outside.names() == []
