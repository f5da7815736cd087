"""What is the local protocol's own, beside the conformance suite."""

import ctypes
import errno
import os
import resource
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.local import LOCAL
from datamover.protocols.local.placing import LocalPlacement
from datamover.protocols.local.refusals import DiskRefusals
from tests.protocols.conformance import MIB, get, put, read_to_the_end, settings
from tests.protocols.part_files import PART, DiskPremises, as_nobody, fill, give_name
from tests.waiting import until

AT_FDCWD = -100
RENAME_EXCHANGE = 2


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DiskPremises]:
    root = tmp_path / "root"
    root.mkdir()
    pool = LOCAL.open(settings(root.as_uri()), LOCAL.options(), reactor)
    yield DiskPremises(pool, root, as_nobody)
    pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


def descriptors() -> set[str]:
    """Return what this process has open below a test's directory."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue
    return {each for each in found if "/root" in each}


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///srv/archive", "/srv/archive"),
        ("file:///srv/archive/", "/srv/archive"),
        ("file://localhost/srv", "/srv"),
        ("file:/srv", "/srv"),
        ("file:///", "/"),
        ("file:////srv//x/./y", "/srv/x/y"),
        ("file:///srv/a%20b%C3%BC", "/srv/a bü"),
    ],
)
def test_urls(url: str, root: str) -> None:
    """A URL names an absolute path, percent-decoded; it has neither host nor user."""
    LOCAL.check_url(url)
    assert LOCAL.root(url) == root
    assert LOCAL.host(url) is None
    assert LOCAL.user(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "file://host/srv",
        "file:srv",
        "file://",
        "/srv",
        "file:///a?b",
        "file:///a#b",
        "file:///a/../b",
        "file:///a%00",
        "file:///%2e%2e/x",
    ],
)
def test_no_urls(url: str) -> None:
    """Anything but an absolute path of this machine is refused with an example."""
    with pytest.raises(ValueError, match='expected file:// and an absolute path, such as "file:///srv/archive"'):
        LOCAL.check_url(url)


@pytest_twisted.ensureDeferred
async def test_missing_root_is_made(tmp_path: Path) -> None:
    """The root and its parents are made when they are first needed, not when the pool is opened."""
    root = tmp_path / "srv/archive"
    pool = LOCAL.open(settings(root.as_uri()), LOCAL.options(), reactor)
    try:
        assert not (tmp_path / "srv").exists()
        assert await pool.at(Scope.DESTINATION).list("") == []
        assert (await pool.at(Scope.DESTINATION).free() or 0) > 0
        await pool.connect()
        assert root.is_dir()
    finally:
        await pool.close()


@pytest_twisted.ensureDeferred
async def test_absolute_links(premises: DiskPremises) -> None:
    """An absolute link into the root is followed, one beside it is not, though its name begins alike."""
    (premises.root / "file").write_bytes(b"found")
    (premises.root / "in").symlink_to(premises.root / "file")
    (premises.root / "self").symlink_to(premises.root)
    beside = premises.root.with_name("root-2")
    beside.mkdir()
    (premises.root / "beside").symlink_to(beside)
    assert await get(premises.reading, "in") == (0, b"found")
    assert await get(premises.reading, "self/self/in") == (0, b"found")
    with pytest.raises(errors.PathNotAllowedHere, match="through a symbolic link"):
        await premises.reading.inspect("beside")


@pytest_twisted.ensureDeferred
async def test_links_up_and_down(premises: DiskPremises) -> None:
    """A link may go up and down again, as long as it never goes above the root."""
    (premises.root / "a/b").mkdir(parents=True)
    (premises.root / "a/file").write_bytes(b"found")
    (premises.root / "a/b/up").symlink_to("../../a/./b/../file")
    (premises.root / "a/b/over").symlink_to("../../../root/a/file")
    assert await get(premises.reading, "a/b/up") == (0, b"found")
    with pytest.raises(errors.PathNotAllowedHere):
        await premises.reading.inspect("a/b/over")


@pytest_twisted.ensureDeferred
async def test_root_that_is_a_link(tmp_path: Path) -> None:
    """A root may itself be a link; absolute links into it are followed by either of its names."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "file").write_bytes(b"found")
    (tmp_path / "root").symlink_to("real")
    (real / "one").symlink_to(real / "file")
    (real / "two").symlink_to(tmp_path / "root" / "file")
    pool = LOCAL.open(settings((tmp_path / "root").as_uri()), LOCAL.options(), reactor)
    try:
        for name in ("file", "one", "two"):
            assert await get(pool.at(Scope.SOURCE), name) == (0, b"found")
    finally:
        await pool.close()


@pytest_twisted.ensureDeferred
async def test_links_in_a_circle(premises: DiskPremises) -> None:
    """Links that lead round in a circle end in an error that says so."""
    (premises.root / "one").symlink_to("two")
    (premises.root / "two").symlink_to("one")
    (premises.root / "me").symlink_to("me/me")
    for name in ("one", "me", "one/x"):
        with pytest.raises(errors.SourceForbidden, match="too many symbolic links"):
            await premises.reading.origin(name).open()


@pytest_twisted.ensureDeferred
async def test_link_in_the_way(premises: DiskPremises) -> None:
    """A link to a file is replaced, and what it led to is not; a part's name that is a link is not written through."""
    (premises.root / "kept").write_bytes(b"kept")
    (premises.root / "link").symlink_to("kept")
    with pytest.raises(errors.DestinationExists):
        await put(premises.writing, "link", b"new")
    await give_name(premises.parts, PART, "link", replace=True)
    assert not (premises.root / "link").is_symlink()
    assert (premises.root / "link").read_bytes() == b"new"
    assert (premises.root / "kept").read_bytes() == b"kept"


@pytest_twisted.ensureDeferred
async def test_dangling_link(premises: DiskPremises) -> None:
    """A link to nothing is nothing to a reader, and is replaced by a file."""
    (premises.root / "link").symlink_to("none")
    assert await premises.reading.inspect("link") is None
    await put(premises.writing, "link", b"new", replace=True)
    assert (premises.root / "link").read_bytes() == b"new"


@pytest_twisted.ensureDeferred
async def test_placing_goes_on(premises: DiskPremises) -> None:
    """A place that ended between the two names of a file is completed by another."""
    await fill(premises.parts, PART, b"data")
    os.link(premises.root / PART, premises.root / "file")
    await give_name(premises.parts, PART, "file", replace=False)
    assert os.listdir(premises.root) == ["file"]
    await fill(premises.parts, PART, b"more")
    os.unlink(premises.root / "file")
    os.link(premises.root / PART, premises.root / "file")
    await give_name(premises.parts, PART, "file", replace=True)
    assert os.listdir(premises.root) == ["file"]


@pytest_twisted.ensureDeferred
async def test_pipes_are_not_opened(premises: DiskPremises) -> None:
    """A named pipe is refused on either side, and nobody waits at it."""
    for name in ("pipe", PART):
        os.mkfifo(premises.root / name)
    with pytest.raises(errors.SourceForbidden, match="not a regular file"):
        await premises.reading.origin("pipe").open()
    with pytest.raises(errors.DestinationInvalid, match="not a regular file"):
        await premises.parts.open_part(PART, "file")
    with pytest.raises(errors.DestinationInvalid, match="not a regular file"):
        await give_name(premises.parts, PART, "file", replace=True)


@pytest_twisted.ensureDeferred
async def test_umask_and_group(premises: DiskPremises) -> None:
    """Modes are those configured whatever the umask; a set-group-id directory passes its bit on."""
    (premises.root / "shared").mkdir()
    (premises.root / "shared").chmod(0o2775)
    before = os.umask(0o077)
    try:
        await put(premises.writing, "shared/new/file", b"data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((premises.root / "shared/new").stat().st_mode) == 0o2750
    assert stat.S_IMODE((premises.root / "shared/new/file").stat().st_mode) == 0o640


@pytest_twisted.ensureDeferred
async def test_part_is_private(premises: DiskPremises) -> None:
    """Until it is whole nobody else can read a file."""
    sink = await premises.parts.open_part(PART, "file")
    assert stat.S_IMODE((premises.root / PART).stat().st_mode) == 0o600
    await sink.close()


@pytest_twisted.ensureDeferred
async def test_rewritten_while_read(premises: DiskPremises) -> None:
    """A file that is written to while it is read, to the same size, is told to have changed."""
    path = premises.root / "file"
    path.write_bytes(bytes(8 * MIB))
    source = await premises.reading.origin("file").open()
    try:
        await source.read()
        with path.open("r+b") as file:
            file.write(b"other")
        with pytest.raises(errors.SourceChanged, match="changed while it was read"):
            await read_to_the_end(source)
    finally:
        await source.close()


@pytest_twisted.ensureDeferred
async def test_grown_while_read(premises: DiskPremises) -> None:
    """A file that is still being written is told to have changed."""
    path = premises.root / "file"
    path.write_bytes(bytes(8 * MIB))
    source = await premises.reading.origin("file").open()
    try:
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(errors.SourceChanged, match="changed while it was read"):
            await read_to_the_end(source)
    finally:
        await source.close()


@pytest_twisted.ensureDeferred
async def test_names_that_are_not_text(premises: DiskPremises) -> None:
    """A name that is not UTF-8 is listed, and read by the name that the list gave."""
    (premises.root / os.fsdecode(b"caf\xe9")).write_bytes(b"data")
    [name] = await premises.reading.list("")
    assert await get(premises.reading, name) == (0, b"data")


@pytest.mark.parametrize("modified", [1e30, -1e30, 2.0**62, -1.0])
@pytest_twisted.ensureDeferred
async def test_impossible_times(premises: DiskPremises, modified: float) -> None:
    """A modification time that the disk cannot hold is no reason not to have the file."""
    assert await fill(premises.parts, PART, b"data", modified=modified) == 4


@pytest_twisted.ensureDeferred
async def test_failed_write_is_told(premises: DiskPremises) -> None:
    """A write that fails is told by a later call, by each of them, and never taken for done."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = await premises.parts.open_part(PART, "file")
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        with pytest.raises(errors.DestinationInvalid, match="larger than its file system allows"):
            await fill(premises.parts, ".datamover-2-x.part", bytes(4 * MIB))
        await sink.write(bytes(2 * MIB))
        with pytest.raises(errors.DestinationInvalid):
            await sink.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(errors.DestinationInvalid):
        await sink.finish(modified=None)
    await sink.close()


@pytest_twisted.ensureDeferred
async def test_nothing_stays_open(premises: DiskPremises) -> None:
    """Calls that fail, and calls that are cancelled, leave no file open."""
    (premises.root / "file").write_bytes(bytes(2 * MIB))
    (premises.root / "d").mkdir()
    (premises.root / "link").symlink_to("../x")
    for _ in range(3):
        for path in ("d", "none", "link", "file/x"):
            with pytest.raises(DataMoverError):
                await premises.reading.origin(path).open()
        with pytest.raises(DataMoverError):
            await premises.parts.open_part(PART, "file", offset=5)
        for opening in (
            Deferred.fromCoroutine(premises.reading.origin("file").open()),
            Deferred.fromCoroutine(premises.parts.open_part(PART, "file")),
        ):
            opening.cancel()
            with pytest.raises(CancelledError):
                await opening
    await premises.pool.close()
    assert descriptors() == set()


@pytest_twisted.ensureDeferred
async def test_given_up_amid_a_placing(premises: DiskPremises, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directories stay open until the step that was under way has ended, and are closed then."""
    begun, go_on = threading.Event(), threading.Event()
    take_name = LocalPlacement.take_name

    def slow(placing: LocalPlacement) -> None:
        begun.set()
        assert go_on.wait(60)
        take_name(placing)

    async def right(path: str) -> None:
        raise AssertionError("it was given up before")

    monkeypatch.setattr(LocalPlacement, "take_name", slow)
    await fill(premises.parts, PART, b"data")
    placing = Deferred.fromCoroutine(premises.parts.place_part(PART, "file", size=4, replace=False, prove=right))
    await until(begun.is_set)
    placing.cancel()
    for _ in range(20):  # What was asked for by now has been done by then.
        await premises.parts.inspect("file")
    assert len(descriptors()) == 2
    go_on.set()
    with pytest.raises(CancelledError):
        await placing
    assert (premises.root / "file").read_bytes() == b"data"
    await until(lambda: descriptors() == set())


@pytest_twisted.ensureDeferred
async def test_closing_under_way(premises: DiskPremises) -> None:
    """Closing the pool closes what is open, and what is asked of it afterwards is told so."""
    (premises.root / "file").write_bytes(bytes(8 * MIB))
    source = await premises.reading.origin("file").open()
    sink = await premises.parts.open_part(PART, "file")
    await sink.write(bytes(MIB))
    await premises.pool.close()
    assert descriptors() == set()
    with pytest.raises(errors.ConnectionLost):
        await premises.reading.inspect("file")
    await source.close()
    await sink.close()


@pytest.mark.parametrize("side", [Scope.SOURCE, Scope.DESTINATION])
@pytest.mark.parametrize(
    ("code", "reading", "writing"),
    [
        (errno.ENOENT, "SOURCE_NOT_FOUND", "DESTINATION_INVALID"),
        (errno.ENOTDIR, "SOURCE_NOT_FOUND", "DESTINATION_INVALID"),
        (errno.ENAMETOOLONG, "SOURCE_NOT_FOUND", "DESTINATION_INVALID"),
        (errno.EACCES, "SOURCE_FORBIDDEN", "DESTINATION_FORBIDDEN"),
        (errno.EPERM, "SOURCE_FORBIDDEN", "DESTINATION_FORBIDDEN"),
        (errno.EROFS, "SOURCE_FORBIDDEN", "DESTINATION_FORBIDDEN"),
        (errno.EISDIR, "SOURCE_FORBIDDEN", "DESTINATION_INVALID"),
        (errno.EXDEV, "SOURCE_FORBIDDEN", "DESTINATION_INVALID"),
        (errno.ENOSPC, "NO_SPACE", "NO_SPACE"),
        (errno.EDQUOT, "QUOTA_EXCEEDED", "QUOTA_EXCEEDED"),
        (errno.EIO, "SERVER_ERROR", "SERVER_ERROR"),
        (errno.ESTALE, "SERVER_ERROR", "SERVER_ERROR"),
        (None, "SERVER_ERROR", "SERVER_ERROR"),
    ],
)
def test_refusals(side: Scope, code: int | None, reading: str, writing: str) -> None:
    """What the disk refuses has a code and a scope by the side it is on, and names destination and path."""
    error = DiskRefusals("archive", side).of(OSError(code, "words") if code else OSError("words"), "a/" + "b" * 200)
    assert error.code == (reading if side is Scope.SOURCE else writing)
    assert error.scope is side
    assert error.message.startswith("destination 'archive': 'a/bbb")
    assert len(error.message) < 250


@pytest_twisted.ensureDeferred
async def test_a_link_slipped_in(premises: DiskPremises) -> None:
    """A directory that turns into a link and back while it is used leads nobody out of the root."""
    outside = premises.root.parent / "outside"
    outside.mkdir()
    (premises.root / "d").mkdir()
    (premises.root / "link").symlink_to(outside)
    stop = threading.Event()

    exchange = ctypes.CDLL(None).renameat2
    names = [os.fsencode(premises.root / name) for name in ("d", "link")]

    def swap() -> None:
        while not stop.is_set():
            exchange(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    met: set[str] = set()
    number = 0
    try:
        deadline = reactor.seconds() + 30.0
        while not ({"placed", "PATH_NOT_ALLOWED"} <= met and number >= 300) and reactor.seconds() < deadline:
            number += 1
            try:
                await put(premises.writing, f"d/{number}", b"data")
                met.add("placed")
            except DataMoverError as error:
                met.add(error.code)
    finally:
        stop.set()
        swapper.join()
    assert {"placed", "PATH_NOT_ALLOWED"} <= met
    assert os.listdir(outside) == []


@pytest_twisted.ensureDeferred
async def test_a_file_slipped_in(premises: DiskPremises) -> None:
    """A file that turns into a link out and back while it is opened is read as it is in the root, or not at all."""
    private = premises.root.parent / "private"
    private.write_bytes(b"private")
    (premises.root / "file").write_bytes(b"public")
    (premises.root / "link").symlink_to(private)
    stop = threading.Event()
    exchange = ctypes.CDLL(None).renameat2
    names = [os.fsencode(premises.root / name) for name in ("file", "link")]

    def swap() -> None:
        while not stop.is_set():
            exchange(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    met: set[bytes | str] = set()
    number = 0
    try:
        deadline = reactor.seconds() + 30.0
        while not ({b"public", "PATH_NOT_ALLOWED"} <= met and number >= 300) and reactor.seconds() < deadline:
            number += 1
            try:
                met.add((await get(premises.reading, "file"))[1])
            except DataMoverError as error:
                met.add(error.code)
    finally:
        stop.set()
        swapper.join()
    assert {b"public", "PATH_NOT_ALLOWED"} <= met
    assert b"private" not in met
