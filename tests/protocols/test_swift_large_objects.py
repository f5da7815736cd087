"""Large objects at services that take their time over them, tell failures late, or do less than Swift's own."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path as Directory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.place import DestinationPool, PlaceSettings
from datamover.protocols.swift import SWIFT
from datamover.protocols.swift.large_objects import LargeObjects
from datamover.protocols.upload import UploadKey
from tests.protocols import test_swift_service
from tests.protocols.conformance import KEY, arrive, get, put
from tests.protocols.swift import SEGMENTS, ContainerOutside, opened
from tests.servers.between import Answer, Between
from tests.servers.exchange import Exchange
from tests.servers.path import Path, path_to
from tests.servers.swift import CONTAINER, SwiftServer
from tests.servers.web import Web

MIB = 2**20
LATER = UploadKey("2", "b")


swift, outside, pool = (
    test_swift_service.swift,
    test_swift_service.outside,
    test_swift_service.pool,
)


@pytest.fixture
def path(swift: SwiftServer) -> Iterator[Path]:
    with path_to(swift.port) as path:
        yield path


def through(swift: SwiftServer, path: Path, **options: Any) -> Any:
    """Return what gives a pool that reaches the storage by a path."""
    return opened(swift, storage_url=f"http://127.0.0.1:{path.port}{swift.account}", **options)


# Outcomes that are told late ----------------------------------------------------------------------------------


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every manifest is answered before it is looked at."""
    monkeypatch.setattr("datamover.protocols.swift.large_objects.HEARTBEAT_FROM", 1)


@pytest.mark.usefixtures("late")
@pytest_twisted.ensureDeferred
async def test_told_late(pool: DestinationPool, outside: ContainerOutside) -> None:
    """A large object whose making is told at the end of its answer arrives, is replaced, and is removed."""
    place, data = pool.at(Scope.DESTINATION), os.urandom(3 * MIB)
    await put(place, "f", bytes(3 * MIB))
    await put(place, "f", data, replace=True, key=LATER)
    assert outside.read("f") == data
    assert outside.uploads() == 0
    await place.remove("f")
    assert outside.segments() == set()


@pytest_twisted.ensureDeferred
async def test_manifest_whose_etag_lies(swift: SwiftServer, outside: ContainerOutside) -> None:
    """A large object that is said to be another than was sent is taken away again, with its segments."""
    between = Between(reactor, swift.port)
    await between.web.start()

    async def lies(exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        answer = await ask()
        return answer.header("ETag", "0" * 32) if "multipart-manifest=put" in exchange.request.target else answer

    between.handler = lies
    try:
        async with opened(swift, storage_url=f"{between.web.url}{swift.account}", part_size="1MiB") as pool:
            upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", os.urandom(3 * MIB))
            with pytest.raises(errors.ChecksumMismatch, match="its ETag differs"):
                await upload.commit(replace=False)
            assert outside.read("f") is None
            await upload.abort()
            assert outside.segments() == set()
    finally:
        await between.web.stop()


@pytest.mark.usefixtures("late")
@pytest_twisted.ensureDeferred
async def test_exists_told_late(pool: DestinationPool, outside: ContainerOutside) -> None:
    """That something is there already is understood where it is told at the end of the answer."""
    place = pool.at(Scope.DESTINATION)
    await pool.connect()
    upload, _ = await arrive(place, "f", os.urandom(3 * MIB))

    store = place._resources  # type: ignore[attr-defined]
    make = store.large.make

    async def made(*arguments: Any) -> None:
        # Somebody else is first, after it was looked whether anything is there.
        outside.lay("f", b"old")
        await make(*arguments)

    store.large.make = made
    with pytest.raises(errors.DestinationExists):
        await upload.commit(replace=False)
    assert outside.read("f") == b"old"
    await upload.abort()
    assert outside.segments() == set()


@pytest.mark.parametrize("late", [True, False])
@pytest_twisted.ensureDeferred
async def test_lost_segments(
    swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """A segment that is gone when the object is to be made is told, and nothing takes the object's name."""
    if late:
        monkeypatch.setattr("datamover.protocols.swift.large_objects.HEARTBEAT_FROM", 1)
    upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", os.urandom(3 * MIB))
    swift.ask("DELETE", SEGMENTS, sorted(outside.segments())[0])
    with pytest.raises(errors.SizeMismatch, match="is not there any more"):
        await upload.commit(replace=True)
    assert outside.read("f") is None
    await upload.abort()
    assert outside.segments() == set()


@pytest_twisted.ensureDeferred
async def test_removed_in_part(swift: SwiftServer, outside: ContainerOutside) -> None:
    """A removal whose answer says "200 OK", and tells inside that it was not done, has failed."""
    swift.ask("PUT", SEGMENTS)
    rights = {"X-Container-Read": "test2:tester2", "X-Container-Write": "test2:tester2"}
    swift.ask("POST", CONTAINER, headers=rights)
    async with opened(swift, part_size="1MiB") as pool:
        await put(pool.at(Scope.DESTINATION), "f", bytes(3 * MIB))
    segments = outside.segments()
    options = {"username": "test2:tester2", "storage_url": f"{swift.endpoint}{swift.account}", "part_size": "1MiB"}
    swift.ask("POST", SEGMENTS, headers={"X-Container-Read": "test2:tester2"})
    async with opened(swift, **options) as other:
        with pytest.raises(errors.DestinationForbidden, match="may not be written"):
            await other.at(Scope.DESTINATION).remove("f")
    assert outside.segments() == segments


@pytest_twisted.ensureDeferred
async def test_slow_over_a_copy(tmp_path: Directory) -> None:
    """A service may take longer over a copy than it may be silent otherwise: the longer, the larger the file is."""
    web = Web(reactor)
    await web.start()
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    web.route("/auth/v1.0", lambda asked: asked.answer(200, [("X-Auth-Token", "t"), ("X-Storage-Url", f"{web.url}/a")]))

    async def copy(exchange: Exchange) -> None:
        await exchange.pause(1.0)
        exchange.answer(201)

    web.route("/a/container/f", copy)
    table = {"auth_url": f"{web.url}/auth/v1.0", "username": "u", "password_file": tmp_path / "password"}
    settings = PlaceSettings("place", "swift://container", 0o644, 0o755, 5.0, 0.3)
    pool: Any = SWIFT.open(settings, SWIFT.options.model_validate(table), reactor)
    try:
        container = pool.at(Scope.DESTINATION).container
        name = container.name("f")
        await container.large._copy("f", name, name, None, {}, 20 * 10**6)
        with pytest.raises(errors.Stalled):
            await container.large._copy("f", name, name, None, {}, 0)
    finally:
        await pool.close()
        await web.stop()


# Services that do less ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [False, True])
@pytest_twisted.ensureDeferred
async def test_conditions_ignored(swift: SwiftServer, path: Path, outside: ContainerOutside, replace: bool) -> None:
    """Where a service ignores the condition that nothing is there, one looks before: nothing is lost, nor left over."""
    path.alter(b"If-None-Match", b"If-No-Mercies")
    async with through(swift, path, part_size="1MiB") as pool:
        place, data = pool.at(Scope.DESTINATION), os.urandom(3 * MIB)
        await put(place, "large", bytes(3 * MIB))
        outside.lay("plain", b"old")
        for number, name in enumerate(("large", "plain", "large")):
            stored = place.begin(name, UploadKey(f"{number}", "c")).store(b"n", replace=replace, commit=lambda: None)
            if not replace:
                with pytest.raises(errors.DestinationExists):
                    await stored
                upload, _ = await arrive(place, name, data, key=LATER)
                with pytest.raises(errors.DestinationExists):
                    await upload.commit(replace=False)
                await upload.abort()
                continue
            await stored
            assert outside.read(name) == b"n"
            await put(place, name, data, replace=True, key=LATER)
            assert outside.read(name) == data
        if not replace:
            assert (outside.read("large"), outside.read("plain")) == (bytes(3 * MIB), b"old")
    assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_copies_of_nothing(swift: SwiftServer, path: Path, outside: ContainerOutside) -> None:
    """Where a service's copies of large objects are empty, a file of several segments stays a large object, whole."""
    path.alter(b"X-Copy-From", b"X-Copy-Fool")
    async with through(swift, path) as pool:
        place = pool.at(Scope.DESTINATION)
        for number in range(2):
            data = os.urandom(3 * MIB)
            upload = place.begin("f", UploadKey(f"{number}", "c"))
            await upload.open()
            await upload.write(data[: 2 * MIB])
            await upload.flush()
            await upload.write(data[2 * MIB :])
            await upload.finish()
            await upload.commit(replace=True)
            assert outside.read("f") == data
            assert len(outside.segments()) == 2
            assert outside.uploads() == 0
        assert await get(pool.at(Scope.SOURCE), "f") == (0, data)


@pytest_twisted.ensureDeferred
async def test_no_room_for_a_copy(swift: SwiftServer, outside: ContainerOutside) -> None:
    """A file that cannot be made a plain object for want of room stays the large one that it is."""
    async with opened(swift) as pool:
        upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", bytes(3 * MIB), key=KEY)
        swift.ask("POST", CONTAINER, headers={"X-Container-Meta-Quota-Bytes": str(2 * MIB)})
        await upload.commit(replace=True)
    assert outside.read("f") == bytes(3 * MIB)
    assert outside.head("f")["x-static-large-object"] == "True"
    assert outside.uploads() == 0


@pytest.mark.parametrize(("by", "segments"), [("abort", 1), ("sweep", 2)])
@pytest_twisted.ensureDeferred
async def test_copy_that_ends_late(
    swift: SwiftServer, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch, by: str, segments: int
) -> None:
    """A commit that is given up amid its copy leaves no segment, though the service may end the copy later."""
    data, sent = os.urandom(3 * MIB), []
    async with opened(swift) as pool:
        place = pool.at(Scope.DESTINATION)
        upload = place.begin("d/f", KEY, modified=1_700_000_000.5)
        await upload.open()
        for start in range(0, len(data), len(data) // segments):
            await upload.write(data[start : start + len(data) // segments])
            await upload.flush()
        await upload.finish()
        copy = LargeObjects._copy

        async def give_up(objects: LargeObjects, path: str, source: Any, target: Any, *more: Any) -> None:
            if target.container != CONTAINER:  # It is tried first whether copies hold anything.
                await copy(objects, path, source, target, *more)
                return
            sent.append((source, target, *more))
            raise errors.ConnectionLost("it took too long")

        with monkeypatch.context() as patch:
            patch.setattr(LargeObjects, "_copy", give_up)
            with pytest.raises(errors.ConnectionLost):
                await upload.commit(replace=True)
        assert outside.head("d/f")["x-static-large-object"] == "True"
        if by == "abort":
            await upload.abort()
        else:
            await place.sweep("d/", KEY.transfer, check=lambda: None)
        assert outside.segments() == set()
        with suppress(Refused):  # Where its source is gone, it is none.
            await copy(place.container.large, "d/f", *sent[0])  # type: ignore[attr-defined]
        assert outside.segments() == set()
        assert outside.read("d/f") == data
        assert "x-static-large-object" not in outside.head("d/f")
        found = await place.inspect("d/f")
        assert found is not None
        assert found.modified == 1_700_000_000.5


@pytest_twisted.ensureDeferred
async def test_damaged_by_others(swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside) -> None:
    """Where a segment of an object of ours was removed, what looks for what is left removes no other."""
    place = pool.at(Scope.DESTINATION)
    await put(place, "f", bytes(3 * MIB))
    first, *others = sorted(outside.segments())
    swift.ask("DELETE", SEGMENTS, first)
    await place.sweep("f", KEY.transfer, check=lambda: None)
    assert sorted(outside.segments()) == others


# What changes midway ------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_token_ends_midway(swift: SwiftServer, path: Path, outside: ContainerOutside) -> None:
    """A token that is refused while a segment is on its way is renewed once, and the upload goes on."""
    data = os.urandom(48 * MIB)
    async with through(swift, path) as pool:
        place = pool.at(Scope.DESTINATION)
        upload = place.begin("f", KEY, size=len(data))
        await upload.open()
        await upload.write(data[: 20 * MIB])
        await upload.flush()
        swift.forget_tokens()
        await upload.write(data[20 * MIB :])
        await upload.finish()
        await upload.commit(replace=False)
    assert outside.read("f") == data
    assert outside.uploads() == 0


@pytest.mark.parametrize("wide", [False, True])
@pytest_twisted.ensureDeferred
async def test_segments_that_change(swift: SwiftServer, outside: ContainerOutside, wide: bool) -> None:
    """Another program's segments that change while they are read are told, and no mixture counts as the object."""
    size = (24 if wide else 2) * MIB
    first, second, other = os.urandom(size), os.urandom(size), os.urandom(size)
    outside.lay_large("f", first, second, static=False)
    before = outside.head("f")["etag"]
    async with opened(swift) as pool:
        origin = pool.at(Scope.SOURCE).origin("f")
        source = await origin.open()
        assert source.inspection.size == 2 * size
        await source.read()
        while outside.head("f")["etag"] == before:  # The container may hear of it late.
            swift.ask("PUT", "foreign", "f/1", body=other)

        async def rest() -> None:
            while await source.read():
                pass

        with pytest.raises(errors.SourceChanged) as caught:
            await rest()
        await source.close()
        assert caught.value.retryable
        assert await get(pool.at(Scope.SOURCE), "f") == (0, first + other)
