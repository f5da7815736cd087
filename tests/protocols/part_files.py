"""What every protocol must do besides whose uploads are part files, on a disk that the tests can look at.

A test of such a protocol is a subclass of ``PartFileConformance`` with a fixture ``premises``, which says where the
place is and where on this machine its files lie.
"""

import os
import posixpath
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Ability
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.names import PREFIX, SUFFIX, part_path
from datamover.protocols.place import DestinationPool
from tests.protocols.conformance import (
    DIRECTORY_MODE,
    FILE_MODE,
    KEY,
    MIB,
    Conformance,
    Outside,
    Premises,
    content,
    get,
    put,
    read_to_the_end,
)

PART = part_path("", KEY)
BEYOND = 2**32 + 5
"""More than 32 bits count."""
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Disk:
    """``conformance.Outside`` of a directory of this machine."""

    root: Path
    hides: bool
    """Part files that cannot be removed are not told of."""

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

    def lay(self, path: str, data: bytes, modified: float | None = None) -> None:
        (self.root / path).write_bytes(data)
        if modified is not None:
            os.utime(self.root / path, (modified, modified))

    def names(self, directory: str = "") -> list[str]:
        found = sorted(os.listdir(self.root / directory))
        return [name for name in found if not name.startswith(PREFIX)] if self.hides else found

    def uploads(self) -> int:
        return len(list(self.root.rglob(f"{PREFIX}*{SUFFIX}")))


@dataclass(frozen=True)
class DiskPremises(Premises):
    """A place whose files lie on a disk of this machine."""

    pool: DestinationPool
    root: Path
    """Where the files of its root lie on this machine."""
    bound: Callable[[], AbstractContextManager[object]]
    """While it is entered, the protocol is bound by permissions as somebody who owns nothing below the root."""
    modes: bool = True
    """Files and directories have the modes that they are given."""
    times: bool = True
    links: bool = True
    """There are symbolic links; else there is nothing where one is."""
    at_once: bool = True
    """What is written is there at once, and not only when it is closed."""
    resumes: bool = True
    saves: bool = True
    cuts: bool = True
    """A file can be made shorter."""
    removes: bool = True
    lists: bool = True
    tells: bool = True
    """That something is forbidden, or a name too long, is told by a code, and not by words alone, or as nothing."""
    forgets: bool = False
    stale: float = 0.0

    @property
    def outside(self) -> Outside:
        return Disk(self.root, not self.removes)

    def give(self, name: str) -> None:
        """Have a file that a test made belong to whom the protocol writes as, as its own would."""

    @property
    def parts(self) -> PartFilePlace:
        """The place whose uploads are part files."""
        return part_files(self.pool)

    def names(self, directory: str = "") -> list[str]:
        """Return the names in a directory, sorted; without part files where those cannot be removed."""
        return self.outside.names(directory)


def part_files(pool: DestinationPool) -> PartFilePlace:
    """Return the place that a pool writes to, whose uploads are part files."""
    place = pool.at(Scope.DESTINATION)
    assert isinstance(place, PartFilePlace)
    return place


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as a user who owns nothing, where the tests are run by root, whom no permission binds."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def fill(place: PartFilePlace, part: str, data: bytes, *, offset: int = 0, modified: float | None = None) -> int:
    """Write ``data`` to a part file in uneven pieces; return the size that the place tells at the end."""
    sink = await place.open_part(part, "file", offset=offset)
    try:
        step = 100_003
        for start in range(0, len(data), step):
            await sink.write(data[start : start + step])
        return await sink.finish(modified=modified)
    finally:
        await sink.close()


async def give_name(place: PartFilePlace, part: str, path: str, *, replace: bool) -> None:
    """Place a part file that is as large as it has to be."""
    found = await place.inspect(part)
    await place.place_part(part, path, size=(found.size if found else None) or 0, replace=replace)


async def _refused(attempt: Awaitable[object], side: Scope) -> None:
    with pytest.raises(errors.PathNotAllowedHere) as caught:
        await attempt
    assert caught.value.scope is side


def _check_metadata(premises: DiskPremises, name: str, modified: int) -> None:
    """Check a file's mode and time; where they are not to be had, that this is known of the place."""
    status = (premises.root / name).stat()
    if premises.modes:
        assert stat.S_IMODE(status.st_mode) == FILE_MODE
    else:
        assert Ability.SET_MODE in premises.writing.lacks
    if premises.times:
        assert status.st_mtime == modified
    else:
        assert premises.lacking(Ability.SET_MODIFIED)


async def _anew(premises: DiskPremises, data: bytes, offset: int) -> None:
    """Check that what is refused to be written on is known not to be, and written anew."""
    with pytest.raises(errors.DataMoverError) as caught:
        await fill(premises.parts, PART, data[offset:], offset=offset)
    assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, True)
    assert premises.lacking(Ability.RESUME)
    assert await fill(premises.parts, PART, data) == len(data)
    assert (premises.root / PART).read_bytes() == data


@contextmanager
def _forbidden(premises: DiskPremises, side: Scope) -> Iterator[None]:
    """Expect that something is forbidden; at least that it is refused, where words alone tell why.

    What is told names the file that was asked for.
    """
    kinds = {Scope.SOURCE: errors.SourceForbidden, Scope.DESTINATION: errors.DestinationForbidden}
    with pytest.raises(kinds[side] if premises.tells else errors.DataMoverError) as caught:
        yield
    assert caught.value.scope is side
    assert ".datamover-" not in caught.value.message


class PartFileConformance(Conformance):
    """The suite; a subclass gives the fixture ``premises``."""

    @pytest_twisted.ensureDeferred
    async def test_part_is_not_the_target(self, premises: DiskPremises) -> None:
        """Before it is placed, a file is under its part's name alone."""
        await fill(premises.parts, f"a/{PART}", b"half")
        assert await premises.writing.inspect("a/file.bin") is None
        assert os.listdir(premises.root / "a") == [PART]

    @pytest_twisted.ensureDeferred
    async def test_flush_tells_what_is_kept(self, premises: DiskPremises) -> None:
        """After a flush every byte taken is in the part file, and the offset says how many they are."""
        data = content(MIB + 1)
        sink = await premises.parts.open_part(PART, "file")
        await sink.write(data)
        assert await sink.flush() == (len(data) if premises.saves else 0)
        if premises.at_once:
            assert (premises.root / PART).read_bytes() == data
        await sink.write(b"more")
        assert await sink.flush() == (len(data) + 4 if premises.saves else 0)
        if not premises.saves:
            assert await sink.finish(modified=None) == len(data) + 4
        await sink.close()
        assert (premises.root / PART).read_bytes() == data + b"more"

    @pytest_twisted.ensureDeferred
    async def test_flush_tells_all_that_was_taken(self, premises: DiskPremises) -> None:
        """Every flush beside writes tells the offset after all that was taken when it was asked for."""
        data = content(8 * MIB)
        sink = await premises.parts.open_part(PART, "file")
        flushes = []
        for start in range(0, len(data), MIB):
            await sink.write(data[start : start + MIB])
            if start % (2 * MIB) == 0:
                flushes.append((start + MIB, Deferred.fromCoroutine(sink.flush())))
        for offset, flushing in flushes:
            assert await flushing == (offset if premises.saves else 0)
        assert await sink.finish(modified=None) == len(data)
        await sink.close()
        assert (premises.root / PART).read_bytes() == data

    @pytest_twisted.ensureDeferred
    async def test_close_leaves_the_part(self, premises: DiskPremises) -> None:
        """A sink closed midway, even twice, leaves what was flushed, from where the next one goes on."""
        data = content(2 * MIB)
        sink = await premises.parts.open_part(PART, "file")
        await sink.write(data[: MIB + 3])
        kept = await sink.flush()
        await sink.close()
        await sink.close()
        if not premises.saves:
            assert kept == 0
            await _anew(premises, data, MIB)
            return
        assert (premises.root / PART).stat().st_size >= kept == MIB + 3
        if not premises.resumes:
            await _anew(premises, data, kept)
            return
        assert await fill(premises.parts, PART, data[kept:], offset=kept) == len(data)
        assert ((premises.root / PART).read_bytes() == data) is not premises.forgets
        assert (await get(premises.reading, PART) == (0, data)) is not premises.forgets

    @pytest_twisted.ensureDeferred
    async def test_put(self, premises: DiskPremises) -> None:
        """Small files are put whole, with their time, many at once; each is asked for right before it has its name."""
        seen: list[str] = []

        def commit(name: str) -> None:
            assert not (premises.root / name).exists()
            seen.append(name)

        files = {f"a/b/{number}": content(1000 * number) for number in range(40)} | {
            "top": b"",
            "a/large": content(MIB),
        }
        await gatherResults(
            [
                Deferred.fromCoroutine(
                    premises.parts.put_part(
                        posixpath.join(posixpath.dirname(name), f".datamover-{number}.part"),
                        name,
                        data,
                        modified=1_700_000_000.0,
                        replace=False,
                        commit=partial(commit, name),
                    )
                )
                for number, (name, data) in enumerate(files.items())
            ]
        )
        for name, data in files.items():
            assert (premises.root / name).read_bytes() == data
            _check_metadata(premises, name, 1_700_000_000)
        assert sorted(seen) == sorted(files)
        assert not premises.removes or not list(premises.root.rglob(".datamover-*"))

    @pytest_twisted.ensureDeferred
    async def test_put_where_something_is(self, premises: DiskPremises) -> None:
        """What is there stays, and no part file beside it, unless it is to be replaced; a directory always does."""
        (premises.root / "file").write_bytes(b"old")
        (premises.root / "directory").mkdir()
        put = partial(premises.parts.put_part, PART, modified=None, commit=lambda: None)
        with pytest.raises(errors.DestinationExists):
            await put("file", b"new", replace=False)
        assert (premises.root / "file").read_bytes() == b"old"
        assert premises.names() == ["directory", "file"]
        await put("file", b"new", replace=True)
        assert (premises.root / "file").read_bytes() == b"new"
        for replace in (True, False):
            with pytest.raises(errors.DataMoverError):
                await put("directory", b"new", replace=replace)
            (premises.root / PART).unlink(missing_ok=True)
        assert (premises.root / "directory").is_dir()

    @pytest_twisted.ensureDeferred
    async def test_put_over_what_an_attempt_left(self, premises: DiskPremises) -> None:
        """A part file of an attempt that died, longer than what is put, is written over and cut."""
        (premises.root / PART).write_bytes(b"longer than it")
        premises.give(PART)
        await premises.parts.put_part(PART, "file", b"short", modified=None, replace=False, commit=lambda: None)
        assert (premises.root / "file").read_bytes() == b"short"
        assert premises.names() == ["file"]

    @pytest_twisted.ensureDeferred
    async def test_offset_beyond_the_part(self, premises: DiskPremises) -> None:
        """Writing on from beyond what the part file holds is refused: there would be a hole."""
        (premises.root / PART).write_bytes(b"abc")
        with pytest.raises(errors.SizeMismatch):
            await premises.parts.open_part(PART, "file", offset=4)
        with pytest.raises(errors.SizeMismatch):
            await premises.parts.open_part(".datamover-2-x.part", "file", offset=1)
        assert os.listdir(premises.root) == [PART]

    @pytest.mark.parametrize("offset", [0, 2])
    @pytest_twisted.ensureDeferred
    async def test_longer_predecessor(self, premises: DiskPremises, offset: int) -> None:
        """What a longer part file held beyond the last byte written is cut off; else nothing is said to be well."""
        (premises.root / PART).write_bytes(b"ab" + b"x" * MIB)
        (premises.root / PART).chmod(0o600)
        premises.give(PART)
        if offset and premises.forgets:
            await fill(premises.parts, PART, b"cd", offset=2)
            assert await get(premises.reading, PART) != (0, b"abcd")
            return
        if offset and not (premises.cuts and premises.resumes):
            try:
                assert await fill(premises.parts, PART, b"cd", offset=2) != 4
            except errors.DataMoverError as error:
                assert (error.scope, error.retryable) == (Scope.DESTINATION, True)  # noqa: PT017 - or that it is longer
            return
        assert await fill(premises.parts, PART, b"abcd"[offset:], offset=offset) == 4
        assert (premises.root / PART).read_bytes() == b"abcd"

    @pytest_twisted.ensureDeferred
    async def test_nothing_written_cuts_all(self, premises: DiskPremises) -> None:
        """A file of no bytes begun anew over a part file holds none."""
        (premises.root / PART).write_bytes(b"before")
        premises.give(PART)
        assert await fill(premises.parts, PART, b"") == 0
        assert (premises.root / PART).read_bytes() == b""

    @pytest_twisted.ensureDeferred
    async def test_shrunk_while_read(self, premises: DiskPremises) -> None:
        """A file cut short under its reader is an error that can be tried again, never a short file."""
        path = premises.root / "file.bin"
        with path.open("wb") as file:
            file.truncate(256 * MIB)
        source = await premises.reading.origin("file.bin").open()
        try:
            await source.read()
            os.truncate(path, MIB)
            with pytest.raises(errors.DataMoverError) as caught:
                await read_to_the_end(source)
        finally:
            await source.close()
        assert (caught.value.scope, caught.value.retryable) == (Scope.SOURCE, True)

    @pytest_twisted.ensureDeferred
    async def test_no_part(self, premises: DiskPremises) -> None:
        """A part file that is not there is not placed."""
        with pytest.raises(errors.DestinationInvalid):
            await give_name(premises.parts, "no.part", "target", replace=True)

    @pytest_twisted.ensureDeferred
    async def test_directories_and_modes(self, premises: DiskPremises) -> None:
        """Missing directories are made, for the part and for the target, and modes are those configured."""
        assert await fill(premises.parts, f"x/y/{PART}", b"data", modified=1_234_567_890.0) == 4
        await give_name(premises.parts, f"x/y/{PART}", "x/new/er/file.bin", replace=False)
        _check_metadata(premises, "x/new/er/file.bin", 1_234_567_890)
        for directory in ("x", "x/y", "x/new", "x/new/er") if premises.modes else ():
            assert stat.S_IMODE((premises.root / directory).stat().st_mode) == DIRECTORY_MODE

    @pytest_twisted.ensureDeferred
    async def test_forbidden(self, premises: DiskPremises) -> None:
        """What permissions keep away is forbidden at the side that wants it."""
        closed = premises.root / "closed"
        closed.mkdir()
        (closed / "file").write_bytes(b"secret")
        (premises.root / "own").write_bytes(b"secret")
        closed.chmod(0o000)
        (premises.root / "own").chmod(0o000)
        try:
            with premises.bound():
                for path in ("own", "closed/file"):
                    with _forbidden(premises, Scope.SOURCE):
                        await get(premises.reading, path)
                with _forbidden(premises, Scope.SOURCE):
                    await premises.reading.origin("closed/file").inspect()
                with _forbidden(premises, Scope.DESTINATION):
                    await put(premises.writing, "closed/new", b"data")
                with _forbidden(premises, Scope.DESTINATION) if premises.tells else suppress(errors.DataMoverError):
                    await premises.writing.remove("closed/file")
        finally:
            closed.chmod(0o700)
        assert (closed / "file").read_bytes() == b"secret"

    @pytest.mark.parametrize("replace", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_directory_in_the_way(self, premises: DiskPremises, replace: bool) -> None:
        """A directory where a file should be is told as such and left alone, empty or not."""
        (premises.root / "full").mkdir()
        (premises.root / "full/file").write_bytes(b"kept")
        (premises.root / "empty").mkdir()
        for target in ("full", "empty"):
            with pytest.raises(errors.DestinationInvalid, match=target):
                await put(premises.writing, target, b"data", replace=replace)
            assert (premises.root / target).is_dir()
            with pytest.raises(errors.DataMoverError) as caught:
                await premises.reading.origin(target).open()
            assert (caught.value.scope, caught.value.retryable) == (Scope.SOURCE, False)
        assert (premises.root / "full/file").read_bytes() == b"kept"

    @pytest_twisted.ensureDeferred
    async def test_file_in_the_way(self, premises: DiskPremises) -> None:
        """A file where a directory should be is told as such and left alone."""
        (premises.root / "file").write_bytes(b"kept")
        with pytest.raises(errors.DestinationInvalid):
            await premises.parts.open_part(f"file/{PART}", "file/target")
        await fill(premises.parts, PART, b"data")
        with pytest.raises(errors.DestinationInvalid):
            await give_name(premises.parts, PART, "file/target", replace=True)
        assert (premises.root / "file").read_bytes() == b"kept"

    @pytest_twisted.ensureDeferred
    async def test_name_too_long(self, premises: DiskPremises) -> None:
        """A name that the disk does not take is the destination's refusal, and no file is there for a reader."""
        long = "n" * 256
        refused = errors.DestinationInvalid if premises.tells else errors.DataMoverError
        with pytest.raises(refused) as caught:
            await premises.parts.open_part(f"{long}/{PART}", f"{long}/target")
        assert caught.value.scope is Scope.DESTINATION
        with pytest.raises(refused) as caught:
            await put(premises.writing, long, b"data")
        assert caught.value.scope is Scope.DESTINATION
        with pytest.raises(errors.SourceNotFound if premises.tells else errors.DataMoverError) as caught:
            await premises.reading.origin(long).open()
        assert caught.value.scope is Scope.SOURCE

    @pytest_twisted.ensureDeferred
    async def test_links_out_of_the_root(self, premises: DiskPremises) -> None:
        """No symbolic link leads out of the root, at the end of a path or within it, whichever way it is used."""
        outside = premises.root.parent / "outside"
        outside.mkdir()
        (outside / "file").write_bytes(b"private")
        outside.chmod(0o755)
        (premises.root / "up").symlink_to("../outside")
        (premises.root / "away").symlink_to(outside)
        (premises.root / "passwd").symlink_to("/etc/passwd")
        await fill(premises.parts, PART, b"data")
        if not premises.links:
            for path in ("up/file", "away/file", "passwd"):
                assert await premises.reading.inspect(path) is None
                with pytest.raises(errors.SourceNotFound):
                    await premises.reading.origin(path).open()
            for path in ("up", "away"):
                with pytest.raises(errors.DataMoverError):
                    await give_name(premises.parts, PART, f"{path}/file", replace=True)
            assert os.listdir(outside) == ["file"]
            assert (outside / "file").read_bytes() == b"private"
            return
        for path in ("up/file", "away/file", "passwd"):
            await _refused(premises.reading.inspect(path), Scope.SOURCE)
            await _refused(premises.reading.origin(path).inspect(), Scope.SOURCE)
            await _refused(premises.reading.origin(path).open(), Scope.SOURCE)
        for path in ("up", "away"):
            await _refused(premises.writing.list(path), Scope.DESTINATION)
            await _refused(premises.parts.open_part(f"{path}/new/{PART}", f"{path}/new/target"), Scope.DESTINATION)
            await _refused(give_name(premises.parts, PART, f"{path}/file", replace=True), Scope.DESTINATION)
            await _refused(premises.writing.remove(f"{path}/file"), Scope.DESTINATION)
        assert os.listdir(outside) == ["file"]
        assert (outside / "file").read_bytes() == b"private"

    @pytest_twisted.ensureDeferred
    async def test_links_within_the_root(self, premises: DiskPremises) -> None:
        """A symbolic link that stays below the root is followed."""
        (premises.root / "real/deep").mkdir(parents=True)
        (premises.root / "real/file").write_bytes(b"found")
        (premises.root / "link").symlink_to("real")
        (premises.root / "real/deep/back").symlink_to("../file")
        if not premises.links:
            for path in ("link/file", "link/deep/back"):
                with pytest.raises(errors.SourceNotFound):
                    await get(premises.reading, path)
            return
        assert await get(premises.reading, "link/file") == (0, b"found")
        assert await get(premises.reading, "link/deep/back") == (0, b"found")
        await put(premises.writing, "link/new", b"written")
        assert (premises.root / "real/new").read_bytes() == b"written"

    @pytest_twisted.ensureDeferred
    async def test_beyond_4_gib(self, premises: DiskPremises) -> None:
        """Offsets beyond 4 GiB are written to and read from (a hole stands for what is before)."""
        with (premises.root / PART).open("wb") as file:
            file.truncate(BEYOND + (100 if premises.cuts else 0))
        (premises.root / PART).chmod(0o600)
        premises.give(PART)
        if premises.resumes and premises.at_once:
            assert await fill(premises.parts, PART, b"the end", offset=BEYOND) == BEYOND + 7
        else:
            with (premises.root / PART).open("r+b") as file:
                file.seek(BEYOND)
                file.write(b"the end")
                file.truncate()
        await give_name(premises.parts, PART, "large", replace=False)
        looked = await premises.reading.origin("large").inspect()
        assert looked.size == BEYOND + 7
        assert await get(premises.reading, "large", offset=BEYOND, identity=looked.identity) == (BEYOND, b"the end")
