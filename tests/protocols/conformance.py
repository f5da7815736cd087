"""What every protocol that holds a place must do: one suite, run over each by a few lines.

A protocol's test is a subclass of ``Conformance`` with a fixture ``premises``, which gives the place, and a way to look
at what is there, and to tamper with it, past the protocol. Protocols whose uploads are part files have more to do:
their suite is ``part_files.PartFileConformance``.
"""

import sys
from array import array
from collections.abc import Coroutine
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import Any, Protocol

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Ability, Origin, Source
from datamover.protocols.place import DestinationPool, Place, PlaceSettings
from datamover.protocols.upload import Saved, Upload, UploadKey

MIB = 2**20
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
KEY = UploadKey("1", "0a1b")
MODIFIED = 1_234_567_890.0
"""POSIX seconds."""


class Outside(Protocol):
    """What is at a place, past its protocol; every path is below the root."""

    def read(self, path: str) -> bytes | None:
        """Return a file's content, None where there is none."""
        ...

    def lay(self, path: str, data: bytes, modified: float | None = None) -> None:
        """Put a file there, with that time (POSIX seconds)."""
        ...

    def names(self, directory: str = "") -> list[str]:
        """Return what is seen in a directory, sorted."""
        ...

    def uploads(self) -> int:
        """Count the uploads that are not committed."""
        ...


class Premises:
    """A place under test; what it does as any does is True here, and where it does not, its own says so."""

    pool: DestinationPool
    """Opened with ``FILE_MODE`` and ``DIRECTORY_MODE``; closed by the fixture."""
    times = True
    """Files have the times that they are given."""
    resumes = True
    """An upload can be written on."""
    saves = True
    """What was written of an upload is kept before it is finished."""
    removes = True
    """Files can be removed."""
    lists = True
    """Directories can be listed."""
    forgets = False
    """What had arrived is lost when it is written on, and nobody is told: it can only be read."""
    unit = MIB
    """Bytes, more than the least that can be saved of an upload."""
    stale = 0.0
    """Seconds for which it may tell what was before."""

    @property
    def outside(self) -> Outside:
        raise NotImplementedError

    @property
    def reading(self) -> Place:
        return self.pool.at(Scope.SOURCE)

    @property
    def writing(self) -> Place:
        return self.pool.at(Scope.DESTINATION)

    def lacking(self, *abilities: Ability) -> bool:
        """Tell whether all of these are known to be lacking, each with what the other side said."""
        known = {lack.ability: lack.why for lack in self.pool.lacks}
        return all(known.get(ability) for ability in abilities)

    async def catch_up(self) -> None:
        """Wait until what was changed past it is seen."""
        if self.stale:
            await deferLater(reactor, self.stale)


def settings(url: str) -> PlaceSettings:
    """Return what the suite expects a pool to be opened with."""
    return PlaceSettings("place", url, FILE_MODE, DIRECTORY_MODE, connect_timeout=10.0, idle_timeout=10.0)


def content(size: int) -> bytes:
    """Return ``size`` bytes that no shift or gap leaves the same."""
    return _counted(max(16 * MIB, size))[:size]


@lru_cache(maxsize=2)
def _counted(size: int) -> bytes:
    numbers = array("I", range((size + 3) // 4))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()[:size]


async def write(upload: Upload, data: bytes) -> Saved:
    """Write ``data`` to an upload in uneven pieces, and finish it; return what the place tells of it at the end."""
    try:
        await upload.open()
        step = 100_003
        for start in range(0, len(data), step):
            await upload.write(data[start : start + step])
        return await upload.finish()
    finally:
        await upload.close()


async def arrive(
    place: Place, path: str, data: bytes, *, key: UploadKey = KEY, modified: float | None = None
) -> tuple[Upload, Saved]:
    """Have all of a file arrive, and not be committed."""
    upload = place.begin(path, key, size=len(data), modified=modified)
    saved = await write(upload, data)
    assert saved.offset == len(data)
    return upload, saved


async def put(place: Place, path: str, data: bytes, *, replace: bool = False, key: UploadKey = KEY) -> None:
    """Write a file as the engine does."""
    upload, _ = await arrive(place, path, data, key=key)
    stored = await upload.commit(replace=replace)
    assert stored.size == len(data)


async def get(place: Place, path: str, *, offset: int = 0, identity: str | None = None) -> tuple[int, bytes]:
    """Return where reading began and what was read."""
    return await read(place.origin(path), offset, identity)


async def read(origin: Origin, offset: int = 0, identity: str | None = None) -> tuple[int, bytes]:
    source = await origin.open(offset, identity)
    try:
        found = []
        while data := await source.read():
            found.append(data)
        assert await source.read() == b""
        return source.offset, b"".join(found)
    finally:
        await source.close()


async def there_and_back(pool: DestinationPool, outside: Outside) -> None:
    """Have names of all that object stores take go there and back, two that differ by case or Unicode form apart."""
    names = ["a+b", "%2F", "a&b=c?d#e", "line\nbreak", "back\\slash", "é", "e\u0301", "Case", "case", "…", "~."]
    names.append("\U0001f30d")
    reading, writing = pool.at(Scope.SOURCE), pool.at(Scope.DESTINATION)
    for name in names:
        await put(writing, f"d/{name}", name.encode())
    assert outside.names("d") == await reading.list("d") == sorted(names)
    for name in names:
        assert await get(reading, f"d/{name}") == (0, name.encode())


async def read_to_the_end(source: Source) -> None:
    """Read what is left and let it go."""
    while await source.read():
        pass


class Conformance:
    """The suite; a subclass gives the fixture ``premises``."""

    makes_twice = False
    """Whether the server refuses one of two requests for which it makes the same directory at a time."""

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB + 7])
    @pytest_twisted.ensureDeferred
    async def test_round_trip(self, premises: Premises, size: int) -> None:
        """What is written and committed is there, and is what is read, to the byte."""
        data = content(size)
        await put(premises.writing, "file.bin", data)
        assert premises.outside.read("file.bin") == data
        assert await get(premises.reading, "file.bin") == (0, data)
        assert premises.outside.names() == ["file.bin"]

    @pytest_twisted.ensureDeferred
    async def test_inspection(self, premises: Premises) -> None:
        """A look at a file tells name, size, time and an identity that changes with the file."""
        premises.outside.lay("file.bin", b"one", 1_000_000_000)
        first = await premises.reading.origin("file.bin").inspect()
        assert (first.name, first.size, first.modified, first.directory) == ("file.bin", 3, 1_000_000_000, False)
        assert first.identity
        assert first == await premises.reading.inspect("file.bin")
        premises.outside.lay("file.bin", b"one", 1_000_000_002)
        await premises.catch_up()
        assert (await premises.reading.origin("file.bin").inspect()).identity != first.identity

    # Uploads --------------------------------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_begun_without_a_request(self, premises: Premises) -> None:
        """An upload that is begun and let go of leaves nothing."""
        upload = premises.writing.begin("a/file.bin", KEY)
        await upload.close()
        await upload.close()
        await upload.abort()
        assert premises.outside.names() == []
        assert premises.outside.uploads() == 0

    @pytest_twisted.ensureDeferred
    async def test_invisible_until_committed(self, premises: Premises) -> None:
        """Before it is committed, nothing has the target's name; what arrived can be read back, or is said not to."""
        upload, _ = await arrive(premises.writing, "a/file.bin", b"whole")
        assert await premises.writing.inspect("a/file.bin") is None
        assert premises.outside.read("a/file.bin") is None
        assert premises.outside.uploads() == 1
        assert upload.arrived is None or await read(upload.arrived) == (0, b"whole")
        await upload.commit(replace=False)
        assert premises.outside.read("a/file.bin") == b"whole"
        assert not premises.removes or premises.outside.uploads() == 0

    @pytest_twisted.ensureDeferred
    async def test_committed_by_another(self, premises: Premises) -> None:
        """What is finished is committed from its token alone, with the time that it was begun with."""
        _, saved = await arrive(premises.writing, "a/file.bin", b"whole", modified=MODIFIED)
        upload = premises.writing.resume("a/file.bin", saved, size=saved.offset)
        assert await upload.exists()
        stored = await upload.commit(replace=False)
        assert stored.size == 5
        assert premises.outside.read("a/file.bin") == b"whole"
        found = await premises.reading.origin("a/file.bin").inspect()
        if premises.times:
            assert found.modified == MODIFIED
        else:
            assert premises.lacking(Ability.SET_MODIFIED)

    @pytest_twisted.ensureDeferred
    async def test_gone_on_with(self, premises: Premises) -> None:
        """An upload let go of midway, even twice, is gone on with from what was saved of it."""
        unit = premises.unit
        data = content(5 * unit)
        upload = premises.writing.begin("a/file.bin", KEY)
        await upload.open()
        assert upload.offset == 0
        await upload.write(data[: 3 * unit])
        saved = await upload.flush()
        assert 0 < saved.offset <= 3 * unit if premises.saves else not saved.offset
        await upload.write(data[3 * unit : 4 * unit])
        await upload.close()
        await upload.close()
        again = premises.writing.resume("a/file.bin", saved)
        assert again.offset == saved.offset
        if not premises.saves:
            assert premises.lacking(Ability.RESUME)
            assert (await write(again, data)).offset == len(data)
            await again.commit(replace=False)
            assert premises.outside.read("a/file.bin") == data
            return
        assert await again.exists()
        if again.arrived is not None:
            assert (await read(again.arrived))[1][: saved.offset] == data[: saved.offset]
        if not premises.resumes:
            with pytest.raises(errors.DataMoverError) as caught:
                await write(again, data[saved.offset :])
            assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, True)
            assert premises.lacking(Ability.RESUME)
            again = premises.writing.begin("a/file.bin", KEY)
        assert (await write(again, data[again.offset :])).offset == len(data)
        await again.commit(replace=False)
        assert (premises.outside.read("a/file.bin") == data) is not premises.forgets

    @pytest_twisted.ensureDeferred
    async def test_flush_beside_writes(self, premises: Premises) -> None:
        """Writing goes on while earlier bytes are saved, never more than were taken; nothing is out of its place."""
        data = content(8 * MIB)
        upload = premises.writing.begin("file.bin", KEY)
        await upload.open()
        flushes = []
        for start in range(0, len(data), MIB):
            await upload.write(data[start : start + MIB])
            if start % (2 * MIB) == 0:
                flushes.append((start + MIB, Deferred.fromCoroutine(upload.flush())))
        for offset, flushing in flushes:
            assert (await flushing).offset <= offset
        assert (await upload.finish()).offset == len(data)
        await upload.close()
        await upload.commit(replace=False)
        assert premises.outside.read("file.bin") == data

    @pytest_twisted.ensureDeferred
    async def test_aborted(self, premises: Premises) -> None:
        """Of an upload that is aborted nothing stays, by whom it may be; aborted again, nothing happens."""
        upload, saved = await arrive(premises.writing, "a/file.bin", b"whole")

        def lost() -> None:
            raise errors.ConnectionLost("no longer ours")

        with pytest.raises(errors.ConnectionLost):
            await upload.abort(lost)
        assert premises.outside.uploads() == 1
        for each in (upload, premises.writing.resume("a/file.bin", saved)):
            with nullcontext() if premises.removes else suppress(errors.DestinationForbidden):
                await each.abort()
        if not premises.removes:
            return
        assert premises.outside.uploads() == 0
        assert not await upload.exists()
        with pytest.raises(errors.SizeMismatch):
            await upload.commit(replace=True)
        assert await premises.writing.inspect("a/file.bin") is None

    @pytest_twisted.ensureDeferred
    async def test_swept(self, premises: Premises) -> None:
        """What uploads of one target left is removed, except what is kept; another transfer's stays."""
        if not (premises.removes and premises.lists):
            await arrive(premises.writing, "a/file.bin", b"whole")
            with pytest.raises(errors.DestinationForbidden):
                await premises.writing.sweep("a/file.bin", KEY.transfer, check=lambda: None)
            return
        old, _ = await arrive(premises.writing, "a/file.bin", b"old", key=UploadKey("1", "a"))
        new, _ = await arrive(premises.writing, "a/file.bin", b"new", key=UploadKey("1", "b"))
        other, _ = await arrive(premises.writing, "a/other.bin", b"other", key=UploadKey("12", "a"))
        checked: list[None] = []
        await premises.writing.sweep("a/file.bin", "1", check=lambda: checked.append(None), keep=new.token)
        assert [await each.exists() for each in (old, new, other)] == [False, True, True]
        assert checked
        await premises.writing.sweep("a/file.bin", "1", check=lambda: None)
        await premises.writing.sweep("none/such", "1", check=lambda: None)
        assert [await each.exists() for each in (new, other)] == [False, True]

    @pytest_twisted.ensureDeferred
    async def test_replace(self, premises: Premises) -> None:
        """A file replaces another at once."""
        await put(premises.writing, "file.bin", b"first")
        await put(premises.writing, "file.bin", b"second", replace=True)
        assert premises.outside.read("file.bin") == b"second"
        assert premises.outside.names() == ["file.bin"]

    @pytest.mark.parametrize("connected", [False, True])
    @pytest_twisted.ensureDeferred
    async def test_no_replace(self, premises: Premises, connected: bool) -> None:
        """Where nothing may be replaced, what exists is left alone and said to exist; the upload stays as well."""
        if connected:  # What is learnt of a side then holds.
            await premises.pool.connect()
        await put(premises.writing, "file.bin", b"first")
        upload, _ = await arrive(premises.writing, "file.bin", b"second")
        with pytest.raises(errors.DestinationExists, match=r"file\.bin"):
            await upload.commit(replace=False)
        assert premises.outside.read("file.bin") == b"first"
        assert await upload.exists()
        await upload.commit(replace=True)
        assert premises.outside.read("file.bin") == b"second"

    @pytest.mark.parametrize("replace", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_proved(self, premises: Premises, replace: bool) -> None:
        """A file is read under its name before the commit is done, and what is found wrong there does not stay."""
        seen: list[bytes] = []

        async def prove(origin: Origin) -> None:
            seen.append((await read(origin))[1])

        async def disprove(origin: Origin) -> None:
            await prove(origin)
            raise errors.ChecksumMismatch("it is not what was sent")

        if replace:
            await put(premises.writing, "file.bin", b"old")
        upload, _ = await arrive(premises.writing, "file.bin", b"wrong")
        with pytest.raises(errors.ChecksumMismatch):
            await upload.commit(replace=replace, prove=disprove)
        if premises.removes:
            assert premises.outside.read("file.bin") in (b"old" if replace else None, None)
        right, _ = await arrive(premises.writing, "file.bin", b"right")
        await right.commit(replace=replace or not premises.removes, prove=prove)
        assert seen[-1] == premises.outside.read("file.bin") == b"right"

    # Small files ----------------------------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_stored(self, premises: Premises) -> None:
        """Small files are stored whole, with their time, many at once; each is asked for right before its name."""
        seen: list[str] = []
        files = {f"a/b/{number}": content(1000 * number) for number in range(40)} | {
            "top": b"",
            "a/large": content(MIB),
        }

        if self.makes_twice:
            premises.outside.lay("a/b/there", b"")

        async def store(number: int, name: str, data: bytes) -> None:
            def commit() -> None:
                assert premises.outside.read(name) is None
                seen.append(name)

            upload = premises.writing.begin(name, UploadKey("1", str(number)), size=len(data), modified=MODIFIED)
            assert (await upload.store(data, replace=False, commit=commit)).size == len(data)

        await gatherResults([Deferred.fromCoroutine(store(number, *file)) for number, file in enumerate(files.items())])
        for name, data in files.items():
            assert premises.outside.read(name) == data
            found = await premises.reading.origin(name).inspect()
            assert found.modified == MODIFIED if premises.times else premises.lacking(Ability.SET_MODIFIED)
        assert sorted(seen) == sorted(files)
        assert not premises.removes or premises.outside.uploads() == 0

    @pytest_twisted.ensureDeferred
    async def test_stored_where_something_is(self, premises: Premises) -> None:
        """What is there stays, and no upload beside it, unless it is to be replaced."""
        premises.outside.lay("file", b"old")
        upload = premises.writing.begin("file", KEY)
        with pytest.raises(errors.DestinationExists):
            await upload.store(b"new", replace=False, commit=lambda: None)
        assert premises.outside.read("file") == b"old"
        assert not premises.removes or premises.outside.uploads() == 0
        await upload.store(b"new", replace=True, commit=lambda: None)
        assert premises.outside.read("file") == b"new"

    @pytest_twisted.ensureDeferred
    async def test_stored_no_longer(self, premises: Premises) -> None:
        """Where the last question is answered with an error, that is raised, and nothing has the name."""

        def commit() -> None:
            raise errors.SourceChanged("not any more")

        upload = premises.writing.begin("file", KEY)
        with pytest.raises(errors.SourceChanged):
            await upload.store(b"data", replace=True, commit=commit)
        assert premises.outside.read("file") is None
        with nullcontext() if premises.removes else suppress(errors.DestinationForbidden):
            await upload.abort()
        assert not premises.removes or premises.outside.uploads() == 0

    # Reading --------------------------------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_read_from_an_offset(self, premises: Premises) -> None:
        """Reading goes on from an offset while the file is the same one, up to its very end."""
        data = content(2 * MIB + 5)
        premises.outside.lay("file.bin", data)
        identity = (await premises.reading.origin("file.bin").inspect()).identity
        for offset in (1, MIB + 1, len(data) - 1, len(data)):
            assert await get(premises.reading, "file.bin", offset=offset, identity=identity) == (offset, data[offset:])

    @pytest_twisted.ensureDeferred
    async def test_read_from_an_offset_of_another(self, premises: Premises) -> None:
        """A file that is no longer the same one, or too short, or of no known identity, is read from its beginning."""
        premises.outside.lay("file.bin", b"new words")
        identity = (await premises.reading.origin("file.bin").inspect()).identity
        for offset, known in ((3, "another"), (3, None), (10, identity)):
            assert await get(premises.reading, "file.bin", offset=offset, identity=known) == (0, b"new words")

    # Names ----------------------------------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_names(self, premises: Premises) -> None:
        """Names of any Unicode, of spaces and signs, and of 255 bytes go there and back as they are."""
        names = ["Ünïcode ☃ 𝛼.csv", " two  spaces ", "100%41?*[x]\\'\"$(y);#&|<>~", "-rf", "n" * 255, "é" * 127]
        for name in names:
            await put(premises.writing, f"d/{name}", name.encode())
        assert premises.outside.names("d") == sorted(names)
        if premises.lists:
            assert sorted(await premises.reading.list("d")) == sorted(names)
        for name in names:
            assert await get(premises.reading, f"d/{name}") == (0, name.encode())
            assert (await premises.reading.origin(f"d/{name}").inspect()).name == name

    @pytest_twisted.ensureDeferred
    async def test_missing(self, premises: Premises) -> None:
        """What is not there is None to a look, SOURCE_NOT_FOUND to a reader, nothing to a list, and removed already."""
        premises.outside.lay("file", b"")
        for path in ("none", "no/such", "file/below"):
            assert await premises.writing.inspect(path) is None
            assert await premises.reading.inspect(path) is None
            with pytest.raises(errors.SourceNotFound):
                await premises.reading.origin(path).inspect()
            with pytest.raises(errors.SourceNotFound):
                await premises.reading.origin(path).open()
            with nullcontext() if premises.removes else suppress(errors.DestinationForbidden):
                await premises.writing.remove(path)
        if premises.lists:
            assert await premises.writing.list("none") == []
        with pytest.raises(errors.DestinationInvalid):
            await premises.writing.origin("none").open()

    @pytest_twisted.ensureDeferred
    async def test_list_inspect_remove(self, premises: Premises) -> None:
        """A directory is told as one and lists its names; a file is removed, a directory is not."""
        await put(premises.writing, "d/one", b"1")
        await put(premises.writing, "d/two", b"2")
        looked = await premises.writing.inspect("d")
        root = await premises.writing.inspect("")
        assert looked is not None
        assert (looked.name, looked.directory, looked.size, looked.identity) == ("d", True, None, None)
        assert root is not None
        assert root.directory
        if premises.lists:
            assert sorted(await premises.writing.list("d")) == ["one", "two"]
            assert await premises.writing.list("") == ["d"]
        else:
            with pytest.raises(errors.DestinationForbidden):
                await premises.writing.list("d")
        if premises.removes:
            await premises.writing.remove("d/one")
        else:
            with pytest.raises(errors.DestinationForbidden):
                await premises.writing.remove("d/one")
        left = ["two"] if premises.removes else ["one", "two"]
        assert premises.outside.names("d") == left
        with pytest.raises(errors.DestinationInvalid):
            await premises.writing.remove("d")
        assert premises.outside.names("d") == left

    @pytest_twisted.ensureDeferred
    async def test_free(self, premises: Premises) -> None:
        """The room left is told, or that it is not known."""
        free = await premises.writing.free()
        assert free is None or free > 0

    # Cancelling, and much at a time ---------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_cancelled_write(self, premises: Premises) -> None:
        """A write that is cancelled leaves the upload fit to be closed and aborted, and the place to be used."""
        upload = premises.writing.begin("file.bin", KEY)
        await upload.open()

        async def endless() -> None:
            while True:
                await upload.write(bytes(MIB))

        await _cancelled(premises, endless())
        await upload.close()
        with nullcontext() if premises.removes else suppress(errors.DestinationForbidden):
            await upload.abort()
        assert not premises.removes or premises.outside.uploads() == 0
        await put(premises.writing, "file.bin", b"data")

    @pytest_twisted.ensureDeferred
    async def test_cancelled_read(self, premises: Premises) -> None:
        """A read that is cancelled leaves the source fit to be closed and the place to be used."""
        premises.outside.lay("file.bin", bytes(64 * MIB))
        source = await premises.reading.origin("file.bin").open()
        await _cancelled(premises, read_to_the_end(source))
        await source.close()
        await source.close()
        premises.outside.lay("file.bin", b"short")
        assert await get(premises.reading, "file.bin") == (0, b"short")

    @pytest_twisted.ensureDeferred
    async def test_at_the_same_time(self, premises: Premises) -> None:
        """Many files go in and come out at the same time, none mixed up with another."""
        data = {f"d{number % 3}/file-{number}": content(300_000 + number)[number:] for number in range(20)}

        async def there_and_back(path: str) -> None:
            await put(premises.writing, path, data[path], key=UploadKey("1", path.replace("/", "-")))
            assert await get(premises.reading, path) == (0, data[path])

        await gatherResults([Deferred.fromCoroutine(there_and_back(path)) for path in data])

    @pytest_twisted.ensureDeferred
    async def test_connect_again_and_close_twice(self, premises: Premises) -> None:
        """A pool may be asked to connect when it has, and to close when it has."""
        await premises.pool.connect()
        await premises.pool.connect()
        await premises.pool.close()
        await premises.pool.close()


async def _cancelled(premises: Premises, work: Coroutine[Any, Any, None]) -> None:
    """Begin some work, and cancel it while it is under way."""
    await premises.writing.inspect("")  # What answers has a connection then, beside that of the work.
    working: Deferred[None] = Deferred.fromCoroutine(work)
    await premises.writing.inspect("")
    working.cancel()
    with pytest.raises(CancelledError):
        await working
