"""What a real Swift does that is not of every protocol: tokens, containers, names, quotas, large objects."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.base import Ability
from datamover.protocols.place import DestinationPool
from datamover.protocols.swift import SWIFT
from datamover.protocols.upload import UploadKey
from datamover.registry.probe import probe
from tests.protocols.conformance import KEY, arrive, get, put, there_and_back
from tests.protocols.swift import SEGMENTS, ContainerOutside, opened, pool_of
from tests.servers.certificates import Authority
from tests.servers.nginx import Nginx
from tests.servers.swift import CONTAINER, SwiftServer

MIB = 2**20


@pytest.fixture
def swift(swift: SwiftServer) -> SwiftServer:
    """A Swift, empty for each test."""
    swift.clear()
    return swift


@pytest.fixture
def pool(swift: SwiftServer) -> Iterator[DestinationPool]:
    """A pool whose files of more than 1 MiB become large objects."""
    pool = pool_of(swift, part_size="1MiB")
    yield pool
    pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


@pytest.fixture
def outside(swift: SwiftServer) -> ContainerOutside:
    return ContainerOutside(swift)


# Logins -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_token_renewed(swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside) -> None:
    """A token that ends while files are on their way is renewed, and every file arrives whole."""
    place, data = pool.at(Scope.DESTINATION), os.urandom(4 * MIB)
    upload = place.begin("large", KEY)
    await upload.open()
    await upload.write(data[: 2 * MIB])
    await upload.flush()
    swift.forget_tokens()
    await upload.write(data[2 * MIB :])
    others = [
        place.begin(f"{n}", UploadKey("2", f"{n}")).store(b"x", replace=True, commit=lambda: None) for n in range(8)
    ]
    await gatherResults([Deferred.fromCoroutine(each) for each in others])  # type: ignore[arg-type]
    await upload.finish()
    swift.forget_tokens()
    await upload.commit(replace=False)
    assert outside.read("large") == data
    source = await pool.at(Scope.SOURCE).origin("large").open()
    await source.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"username": "test:nobody"}, "the login is refused"),
        ({"auth_url": "{endpoint}/nowhere/v1.0"}, "check auth_url"),
        ({"storage_url": "{endpoint}/v1/AUTH_other"}, "may not be"),
        ({"username": "tester", "project": "other"}, "the login is refused"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_cannot_begin(swift: SwiftServer, options: dict[str, str], words: str) -> None:
    """A wrong user, a wrong address and another's account are told, with what to look at."""
    filled = {key: value.format(endpoint=swift.endpoint) for key, value in options.items()}
    async with opened(swift, **filled) as pool:
        with pytest.raises(DataMoverError) as caught:
            await pool.at(Scope.DESTINATION).begin("f", KEY).store(b"", replace=True, commit=lambda: None)
    assert words in caught.value.full
    assert caught.value.scope is Scope.DESTINATION


@pytest.mark.parametrize(
    "options",
    [
        {"username": "tester", "project": "test"},
        {"storage_url": "{endpoint}"},
        {"storage_url": "{endpoint}{account}"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_named_in_other_ways(swift: SwiftServer, options: dict[str, str]) -> None:
    """A project beside the user, the storage's host, and the whole URL of the account may be configured."""
    filled = {key: value.format(endpoint=swift.endpoint, account=swift.account) for key, value in options.items()}
    async with opened(swift, **filled) as pool:
        await put(pool.at(Scope.DESTINATION), "f", b"data")
        assert await get(pool.at(Scope.SOURCE), "f") == (0, b"data")


@pytest_twisted.ensureDeferred
async def test_wrong_password(swift: SwiftServer, tmp_path: Path) -> None:
    """A wrong password is told as what destinations.test could not do, and the right one works at the next login."""
    file = tmp_path / "password"
    file.write_text("wrong\n")
    file.chmod(0o600)
    async with opened(swift, password_file=str(file)) as pool:
        with pytest.raises(errors.AuthenticationFailed, match="the login is refused") as caught:
            await pool.connect()
        assert "it refuses datamover's login" in caught.value.message
        assert "password_file" in caught.value.full
        file.write_text("testing\n")
        await pool.connect()


@pytest_twisted.ensureDeferred
async def test_probed(swift: SwiftServer, outside: ContainerOutside) -> None:
    """The test of a destination goes through, makes the container, and leaves nothing in it."""
    async with opened(swift, container="new") as pool:
        told = await probe(pool, SWIFT.abilities, reactor)
        assert told["ok"], told
    assert swift.ask("HEAD", "new")[0] == 204
    assert swift.names("new") == []
    assert outside.segments() == set()


@pytest.mark.parametrize("full", [CONTAINER, SEGMENTS])
@pytest_twisted.ensureDeferred
async def test_probed_in_vain(swift: SwiftServer, outside: ContainerOutside, full: str) -> None:
    """The test of a destination that takes nothing says so, and leaves nothing."""
    swift.ask("PUT", full, headers={"X-Container-Meta-Quota-Bytes": "0"})
    async with opened(swift) as pool:
        told = await probe(pool, SWIFT.abilities, reactor)
    assert not told["ok"]
    assert told["steps"][-1]["error"]["code"] == "NO_SPACE"
    assert outside.names() == []
    assert outside.segments() == set()


# Names --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_names(pool: DestinationPool, outside: ContainerOutside) -> None:
    """Names of all that Swift takes go there and back, two that differ by case or by their Unicode form apart."""
    await there_and_back(pool, outside)


@pytest.mark.parametrize(("name", "words"), [("é" * 512, "1,024 is the most"), ("\udce9", "not UTF-8")])
@pytest_twisted.ensureDeferred
async def test_names_that_are_not_taken(pool: DestinationPool, name: str, words: str) -> None:
    """A name of more bytes than the service takes, or of bytes that are no text, is refused in words."""
    for work in (
        pool.at(Scope.DESTINATION).begin(name, KEY).store(b"", replace=True, commit=lambda: None),
        pool.at(Scope.DESTINATION).begin(name, KEY).open(),
    ):
        with pytest.raises(errors.DestinationInvalid, match=words):
            await work


@pytest_twisted.ensureDeferred
async def test_longest_name(pool: DestinationPool, outside: ContainerOutside) -> None:
    """A name of 1,024 bytes, the prefix included, is taken, also for a large object."""
    name = "n" * (1024 - len("a/prefix/"))
    await put(pool.at(Scope.DESTINATION), name, bytes(3 * MIB))
    assert len(outside.read(name) or b"") == 3 * MIB


@pytest.mark.parametrize("name", ["d//f", "d/../f", "d/."])
@pytest_twisted.ensureDeferred
async def test_names_that_no_path_names(pool: DestinationPool, outside: ContainerOutside, name: str) -> None:
    """A directory with a name that no path can have is not listed without it."""
    outside.lay(name, b"")
    with pytest.raises(errors.SourceForbidden, match="no path can name"):
        await pool.at(Scope.SOURCE).list("d")


@pytest_twisted.ensureDeferred
async def test_listed_in_pages(
    pool: DestinationPool, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of many names is listed whole, page after page."""
    monkeypatch.setattr("datamover.protocols.swift.listing.PAGE", 3)
    names = [f"{number:02d}" for number in range(10)]
    for name in names:
        outside.lay(f"d/{name}", b"")
        outside.lay(f"d/{name}-below/f", b"")
    assert await pool.at(Scope.SOURCE).list("d") == sorted([*names, *(f"{name}-below" for name in names)])


@pytest_twisted.ensureDeferred
async def test_directory_objects(swift: SwiftServer, pool: DestinationPool) -> None:
    """An object that stands for a directory is told as one, not listed in itself, and not read."""
    for name in ("a/prefix/d", "a/prefix/e/"):
        swift.ask("PUT", CONTAINER, name, headers={"Content-Type": "application/directory"})
    swift.ask("PUT", CONTAINER, "a/prefix/e/f", body=b"f")
    place = pool.at(Scope.SOURCE)
    assert await place.list("") == ["d", "e"]
    assert await place.list("e") == ["f"]
    for name in ("d", "e"):
        found = await place.inspect(name)
        assert found is not None
        assert found.directory
        with pytest.raises(errors.SourceForbidden, match="is a directory"):
            await place.origin(name).open()


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest_twisted.ensureDeferred
async def test_a_directory_in_the_way(
    swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside, size: int
) -> None:
    """No file replaces the object of a directory; a file stands beside one whose name is that of its directory."""
    swift.ask("PUT", CONTAINER, "a/prefix/d", headers={"Content-Type": "application/directory"})
    outside.lay("d/below", b"below")
    place, data = pool.at(Scope.DESTINATION), os.urandom(size)
    for _ in range(2):  # At first it is not known whether the service honours conditions.
        with pytest.raises(errors.DestinationInvalid, match="is a directory where a file is needed"):
            await place.begin("d", KEY).store(data, replace=True, commit=lambda: None)
        upload, _ = await arrive(place, "d", data)
        with pytest.raises(errors.DestinationInvalid, match="is a directory where a file is needed"):
            await upload.commit(replace=True)
        await upload.abort()
    assert outside.head("d")["content-type"] == "application/directory"
    assert outside.segments() == set()
    await put(place, "d/below/deeper", data)
    assert (outside.read("d/below"), outside.read("d/below/deeper")) == (b"below", data)


# Quotas -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_quota(swift: SwiftServer, pool: DestinationPool) -> None:
    """The room that a quota leaves is told, and one that is used up is."""
    place = pool.at(Scope.DESTINATION)
    assert await place.free() is None
    assert [lack.ability for lack in pool.lacks] == [Ability.FREE_SPACE]
    swift.ask("POST", CONTAINER, headers={"X-Container-Meta-Quota-Bytes": "1000"})
    assert await place.free() == 1000
    swift.ask("PUT", SEGMENTS, headers={"X-Container-Meta-Quota-Bytes": "900"})
    assert await place.free() == 900
    swift.set_account_quota("800")
    assert await place.free() == 800
    assert list(pool.lacks) == []
    with pytest.raises(errors.NoSpace, match="quota"):
        await place.begin("f", KEY).store(bytes(1001), replace=True, commit=lambda: None)
    assert await place.inspect("f") is None


@pytest_twisted.ensureDeferred
async def test_quota_met_by_the_commit(swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside) -> None:
    """A quota that refuses the large object alone, when all of its segments are there, is told; they go."""
    upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", bytes(3 * MIB))
    swift.ask("POST", CONTAINER, headers={"X-Container-Meta-Quota-Count": "0"})
    with pytest.raises(errors.NoSpace, match="quota"):
        await upload.commit(replace=True)
    assert outside.segments() != set()
    await upload.abort()
    assert outside.segments() == set()
    assert outside.names() == []


@pytest.mark.parametrize("account", [True, False])
@pytest_twisted.ensureDeferred
async def test_read_only(swift: SwiftServer, outside: ContainerOutside, account: bool) -> None:
    """A login that may only read reads; what it would write is refused, large files too, and nothing is there."""
    outside.lay("g", b"data")
    rights = {"X-Account-Access-Control": json.dumps({"read-only": ["test2:tester2"]} if account else {})}
    swift.ask("POST", headers=rights)
    swift.ask("POST", CONTAINER, headers={"X-Container-Read": "" if account else "test2:tester2"})
    options = {"username": "test2:tester2", "storage_url": f"{swift.endpoint}{swift.account}", "part_size": "1MiB"}
    async with opened(swift, **options) as pool:
        assert await get(pool.at(Scope.SOURCE), "g") == (0, b"data")
        place = pool.at(Scope.DESTINATION)
        with pytest.raises(errors.DestinationForbidden, match="role in the project"):
            await place.begin("f", KEY).store(b"f", replace=True, commit=lambda: None)
        with pytest.raises(errors.DestinationForbidden):
            await arrive(place, "f", bytes(3 * MIB))
        with pytest.raises(errors.DestinationForbidden, match="may not be written"):
            await place.remove("g")
        told = await probe(pool, SWIFT.abilities, reactor)
        assert not told["ok"]
    swift.ask("POST", headers={"X-Account-Access-Control": ""})
    assert outside.names() == ["g"]
    assert outside.segments() == set()


@pytest_twisted.ensureDeferred
async def test_no_container(swift: SwiftServer) -> None:
    """Where the container is missing, there is nothing to be read, and it is not made for that."""
    async with opened(swift, container="none") as pool:
        place = pool.at(Scope.SOURCE)
        with pytest.raises(errors.SourceNotFound, match="does not exist"):
            await place.origin("f").open()
        assert await place.list("d") == []
        assert await place.inspect("f") is None
        await place.remove("f")
    assert swift.ask("HEAD", "none")[0] == 404


@pytest_twisted.ensureDeferred
async def test_certificates(swift: SwiftServer, tmp_path: Path) -> None:
    """Only a service whose certificate fits is logged in to, and its token goes nowhere without TLS."""
    config = f"location / {{ proxy_pass {swift.endpoint}; client_max_body_size 0; }}"
    with Nginx(tmp_path, config=config, tls=True) as nginx:
        assert nginx.authority is not None
        login = {"auth_url": f"{nginx.url}/auth/v1.0", "ca_file": str(nginx.authority.file)}
        storage = {"storage_url": f"{nginx.url}{swift.account}"}
        async with opened(swift, part_size="1MiB", **login, **storage) as pool:
            await put(pool.at(Scope.DESTINATION), "f", bytes(3 * MIB))
            assert await get(pool.at(Scope.SOURCE), "f") == (0, bytes(3 * MIB))
        other = Authority(tmp_path, "other")
        cases: list[tuple[dict[str, str], type[DataMoverError], str]] = [
            ({**login, **storage, "ca_file": str(other.file)}, errors.TLSFailed, "ca_file"),
            ({"auth_url": login["auth_url"], **storage}, errors.TLSFailed, "ca_file"),
            (login, errors.AuthenticationFailed, "set storage_url"),
        ]
        for options, kind, words in cases:
            async with opened(swift, **options) as pool:
                with pytest.raises(kind) as caught:
                    await pool.at(Scope.DESTINATION).begin("g", KEY).store(b"", replace=True, commit=lambda: None)
                assert words in caught.value.full
                assert not caught.value.retryable
    assert ContainerOutside(swift).names() == ["f"]


# Large objects ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_plain_and_large(pool: DestinationPool, outside: ContainerOutside) -> None:
    """A file of part_size is one plain object, whose ETag is its MD5; a larger one a static large object."""
    place = pool.at(Scope.DESTINATION)
    await put(place, "plain.csv", bytes(MIB))
    assert "x-static-large-object" not in outside.head("plain.csv")
    assert outside.head("plain.csv")["content-type"] == "text/csv"
    assert outside.segments() == set()
    found = await place.inspect("plain.csv")
    assert found is not None
    assert found.digests["md5"] == outside.head("plain.csv")["etag"] == "b6d81b360a5672d80c27430f39153e2c"
    await put(place, "large.csv", bytes(3 * MIB))
    assert outside.head("large.csv")["x-static-large-object"] == "True"
    assert len(outside.segments()) > 1
    assert "x-delete-at" not in outside.head("large.csv")


@pytest_twisted.ensureDeferred
async def test_manifests_of_manifests(
    pool: DestinationPool, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of more segments than one manifest may name is read whole, and removed with all of them."""
    monkeypatch.setattr("datamover.protocols.swift.large_objects.MOST_ENTRIES", 2)
    place, data = pool.at(Scope.DESTINATION), os.urandom(5 * MIB)
    await put(place, "large", data)
    assert outside.read("large") == data
    assert await get(pool.at(Scope.SOURCE), "large", offset=0) == (0, data)
    await place.remove("large")
    assert outside.segments() == set()


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("by", ["store", "commit"])
@pytest_twisted.ensureDeferred
async def test_segments_of_what_is_replaced(
    pool: DestinationPool, outside: ContainerOutside, size: int, by: str
) -> None:
    """The segments of a large object that is replaced go, and those of the new one stay."""
    place, data = pool.at(Scope.DESTINATION), os.urandom(size)
    await put(place, "f", bytes(3 * MIB))
    old = outside.segments()
    if by == "store":
        await place.begin("f", UploadKey("2", "b")).store(data, replace=True, commit=lambda: None)
    else:
        await put(place, "f", data, replace=True, key=UploadKey("2", "b"))
    assert outside.read("f") == data
    assert not old & outside.segments()
    assert outside.uploads() == 0


@pytest.mark.parametrize("by", ["sweep", "commit"])
@pytest_twisted.ensureDeferred
async def test_died_while_replacing(
    pool: DestinationPool, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Segments that a process was about to remove when it died are removed by the next that looks."""
    place, data = pool.at(Scope.DESTINATION), os.urandom(3 * MIB)
    await put(place, "f", bytes(3 * MIB))
    old = outside.segments()
    upload, saved = await arrive(place, "f", data, key=UploadKey("2", "b"))

    async def die(*_: Any, **__: Any) -> None:
        raise errors.ConnectionLost("killed")

    with monkeypatch.context() as patch:
        patch.setattr("datamover.protocols.swift.large_objects.LargeObjects.drop", die)
        with pytest.raises(errors.ConnectionLost):
            await upload.commit(replace=True)
    assert outside.read("f") == data
    assert old <= outside.segments()
    if by == "commit":
        await place.resume("f", saved).commit(replace=True)
    else:
        # It is committed: none of its own segments may go.
        await place.sweep("f", "2", check=lambda: None)
    assert outside.read("f") == data
    assert not old & outside.segments()
    assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_committed_again(
    pool: DestinationPool, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose answer was lost completes when it is made again, and leaves no segment."""
    place = pool.at(Scope.DESTINATION)
    for name, size in (("plain", 10), ("large", 3 * MIB)):
        data = os.urandom(size)
        upload, saved = await arrive(place, name, data, key=UploadKey("2", name))

        async def die(*_: Any, **__: Any) -> None:
            raise errors.ConnectionLost("killed")

        with monkeypatch.context() as patch:
            patch.setattr("datamover.protocols.swift.large_objects.LargeObjects.drop", die)
            with pytest.raises(errors.ConnectionLost):
                await upload.commit(replace=False)
        assert (await place.resume(name, saved).commit(replace=False)).size == size
        assert outside.read(name) == data
        assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_swept_in_a_directory(pool: DestinationPool, outside: ContainerOutside) -> None:
    """What a transfer left right below a directory goes; what it committed there, and what is deeper, stays."""
    place = pool.at(Scope.DESTINATION)
    await put(place, "d/done", bytes(3 * MIB), key=UploadKey("1", "done"))
    for path in ("d/left", "d/below/left"):
        await arrive(place, path, b"left", key=UploadKey("1", path.replace("/", "-")))
    assert outside.uploads() == 2
    await place.sweep("d/", "1", check=lambda: None)
    assert outside.uploads() == 1
    assert outside.read("d/done") == bytes(3 * MIB)
    await place.sweep("d/below/left", "1", check=lambda: None)
    assert outside.uploads() == 0


@pytest_twisted.ensureDeferred
async def test_a_manifest_that_was_copied(swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside) -> None:
    """A copy of a large object's manifest is replaced and removed without the segments, which are the other's."""
    place, data = pool.at(Scope.DESTINATION), os.urandom(3 * MIB)
    await put(place, "f", data)
    for name, work in (("copy", place.remove("copy")), ("other", put(place, "other", b"new", replace=True))):
        headers = {"X-Copy-From": f"{CONTAINER}/a/prefix/f"}
        query = {"multipart-manifest": "get"}
        assert swift.ask("PUT", CONTAINER, f"a/prefix/{name}", query=query, headers=headers)[0] == 201
        assert outside.read(name) == data
        await work
        assert outside.read(name) in (None, b"new")
        assert outside.read("f") == data


@pytest_twisted.ensureDeferred
async def test_listed_late(pool: DestinationPool, outside: ContainerOutside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that no listing tells of yet count as there, and are removed with the others."""
    place = pool.at(Scope.DESTINATION)
    upload, saved = await arrive(place, "f", bytes(3 * MIB))

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    with monkeypatch.context() as patch:
        patch.setattr("datamover.protocols.swift.large_objects.every", nothing)
        assert await place.resume("f", saved).exists()
        await upload.abort()
    assert outside.segments() == set()


@pytest.mark.parametrize("static", [True, False])
@pytest_twisted.ensureDeferred
async def test_large_objects_of_others(
    swift: SwiftServer, pool: DestinationPool, outside: ContainerOutside, static: bool
) -> None:
    """Another program's large object of either kind is read, from an offset too, and its segments are never removed."""
    first, second = os.urandom(MIB), os.urandom(1000)
    outside.lay_large("f", first, second, static=static)
    reading, writing = pool.at(Scope.SOURCE), pool.at(Scope.DESTINATION)
    found = await reading.origin("f").inspect()
    assert found.size == MIB + 1000
    assert "md5" not in found.digests
    assert await get(reading, "f") == (0, first + second)
    assert await get(reading, "f", offset=MIB + 5, identity=found.identity) == (MIB + 5, second[5:])
    await put(writing, "f", b"new", replace=True)
    assert outside.read("f") == b"new"
    assert len(swift.names("foreign")) == 2
    outside.lay_large("g", first, static=static)
    await writing.remove("g")
    assert outside.read("g") is None
    assert len(swift.names("foreign")) == 3


@pytest_twisted.ensureDeferred
async def test_segments_in_the_same_container(swift: SwiftServer) -> None:
    """Segments may stand in the objects' own container: they are hidden in its lists."""
    async with opened(swift, "", part_size="1MiB", segments_container=CONTAINER) as pool:
        await put(pool.at(Scope.DESTINATION), "f", bytes(3 * MIB))
        assert await pool.at(Scope.SOURCE).list("") == ["f"]
        assert len(swift.names()) > 1
        assert swift.names(SEGMENTS) == []
        await pool.at(Scope.DESTINATION).remove("f")
    assert swift.names() == []
