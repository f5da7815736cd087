"""The mounts of the tests: each does what it is told through the kernel, is gone afterwards, and holds nobody up."""

import ctypes
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest

from tests.servers.mounts import mount as mount_module
from tests.servers.mounts.misbehaviour import OPERATIONS, Does, Misbehaviour, Times
from tests.servers.mounts.mount import DEADLINE, Mount, mounted, mounts, require


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    with mounted(tmp_path_factory.mktemp("mount")) as mount:
        yield mount


NUMBERS = itertools.count()


@pytest.fixture
def at(mount: Mount) -> Path:
    """A directory of the test's own in the mount, with a file of eight bytes, an empty directory and a link."""
    mount.tell()
    at: Path = mount.at / f"{next(NUMBERS)}-test"
    (at / "empty").mkdir(parents=True)
    (at / "file").write_bytes(b"12345678")
    (at / "link").symlink_to("file")
    return at


def write(path: Path, flags: int = 0) -> None:
    """Make a file by single calls, each of which may raise OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    try:
        os.pwrite(descriptor, b"12345678", 0)
        os.ftruncate(descriptor, 6)
        os.fsync(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)


def sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_exclusively(old: Path, new: Path) -> None:
    """Rename where nothing has the new name (renameat2(2), RENAME_NOREPLACE)."""
    if ctypes.CDLL(None, use_errno=True).renameat2(-100, os.fsencode(old), -100, os.fsencode(new), 1):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


CALLS: dict[str, Callable[[Path], object]] = {
    "getattr": lambda at: (at / "file").stat(),
    "readlink": lambda at: (at / "link").readlink(),
    "opendir": os.listdir,
    "readdir": os.listdir,
    "fsyncdir": sync,
    "statfs": os.statvfs,
    "mkdir": lambda at: (at / "new").mkdir(),
    "rmdir": lambda at: (at / "empty").rmdir(),
    "mknod": lambda at: os.mknod(at / "new"),
    "symlink": lambda at: (at / "new").symlink_to("file"),
    "unlink": lambda at: (at / "file").unlink(),
    "rename": lambda at: (at / "file").rename(at / "new"),
    "link": lambda at: (at / "new").hardlink_to(at / "file"),
    "chmod": lambda at: (at / "file").chmod(0o600),
    "chown": lambda at: os.chown(at / "file", os.geteuid(), os.getegid()),
    "utimens": lambda at: os.utime(at / "file", (1, 1)),
    "truncate": lambda at: os.truncate(at / "file", 3),
    "create": lambda at: write(at / "new"),
    "open": lambda at: (at / "file").read_bytes(),
    "read": lambda at: (at / "file").read_bytes(),
    "write": lambda at: write(at / "new"),
    "ftruncate": lambda at: write(at / "new"),
    "flush": lambda at: write(at / "new"),
    "fsync": lambda at: write(at / "new"),
    "direct": lambda at: write(at / "new", os.O_DIRECT),
    "exclusive": lambda at: rename_exclusively(at / "file", at / "new"),
}


def test_operations() -> None:
    """Every operation is tried below, but for the two whose answers nobody hears."""
    assert set(CALLS) == OPERATIONS - {"release", "releasedir"}


@pytest.mark.parametrize("operation", sorted(CALLS))
def test_refusing(mount: Mount, at: Path, operation: str) -> None:
    """What refuses an operation says what it was told to say, and does what is asked no sooner than it is told to."""
    # The bindings' library makes nodes by ``create`` where there is one.
    without = [Misbehaviour("create", "ENOSYS")] if operation == "mknod" else []
    mount.tell(Misbehaviour(operation, "ESTALE", path=f"{at.name}*"), *without)
    with pytest.raises(OSError, match="Stale file handle") as caught:
        CALLS[operation](at)
    assert caught.value.errno == errno.ESTALE
    assert mount.met()[0] >= 1


@pytest.mark.parametrize(
    ("misbehaviour", "kept"),
    [
        (Misbehaviour("write"), b"\0\0\0\0\0\0"),
        (Misbehaviour("write", does=Does.HALF), b"1234\0\0"),
        (Misbehaviour("write", does=Does.SHORT), b"1234\0\0"),
        (Misbehaviour("write", does=Does.LOSES), b"1234\0\0"),
        (Misbehaviour("write", does=Does.CORRUPTS), bytes(byte ^ 0xFF for byte in b"123456")),
        (Misbehaviour("ftruncate"), b"12345678"),
        (Misbehaviour("fsync", does=Does.LOSES), b"123"),
        (Misbehaviour("flush", does=Does.LOSES), b"123"),
        (Misbehaviour("release", does=Does.LOSES), b"123"),
    ],
    ids=str,
)
def test_keeping_less(mount: Mount, at: Path, misbehaviour: Misbehaviour, kept: bytes) -> None:
    """What keeps less than it says keeps just that, and says that all is well."""
    mount.tell(misbehaviour)
    write(at / "new")
    (at / "new").stat()  # A release is not waited for, but comes before what is asked after it.
    assert mount.met() == [1]
    assert (mount.back / at.name / "new").read_bytes() == kept


@pytest.mark.parametrize("error", ["EIO", None])
@pytest.mark.parametrize(
    ("operation", "done"),
    [
        ("rename", {"new"}),
        ("link", {"file", "new"}),
        ("unlink", set()),
        ("rmdir", {"file"}),
        ("mkdir", {"file", "new"}),
    ],
)
def test_done_or_not(mount: Mount, at: Path, operation: str, done: set[str], error: str | None) -> None:
    """A change is made whatever is told of it, or not made, as it was told."""
    (at / "link").unlink()
    if operation != "rmdir":
        (at / "empty").rmdir()
    before = set(os.listdir(at))
    told = [error] * 2
    if operation == "mkdir" and error is None:
        # The kernel is given a look at what it had made.
        told[0] = "ENOENT"
    heard: list[str | None] = []
    for does, names in ((Does.NOTHING, before), (Does.ALL, done)):
        mount.tell(Misbehaviour(operation, error, does))
        try:
            CALLS[operation](at)
            heard.append(None)
        except OSError as failure:
            heard.append(errno.errorcode[failure.errno or 0])
        assert set(os.listdir(mount.back / at.name)) == names
    assert heard == told


def test_renaming_exclusively(at: Path) -> None:
    """A rename that must not replace does not."""
    (at / "new").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        rename_exclusively(at / "file", at / "new")
    (at / "new").unlink()
    rename_exclusively(at / "file", at / "new")
    assert (at / "new").read_bytes() == b"12345678"


def test_looks(mount: Mount, at: Path) -> None:
    """A look can tell half a size, or none; a read can give less, or nothing."""
    for does, size, data in ((Does.HALF, 4, b"1234"), (Does.NOTHING, 0, b"")):
        mount.tell(Misbehaviour("getattr", does=does, path="*/file"))
        assert (at / "file").stat().st_size == size
        mount.tell(Misbehaviour("read", does=does, path="*/file"))
        assert (at / "file").read_bytes() == data


def test_turns_and_paths(mount: Mount, at: Path) -> None:
    """Calls are counted from the moment that it was told; those of other paths are none."""
    mount.tell(Misbehaviour("chmod", "EPERM", path=f"{at.name}/file", skip=1, times=2))
    told = []
    for _ in range(5):
        (at / "empty").chmod(0o700)
        try:
            (at / "file").chmod(0o600)
            told.append("OK")
        except PermissionError:
            told.append("EPERM")
    assert told == ["OK", "EPERM", "EPERM", "OK", "OK"]
    assert mount.met() == [2]


@pytest.mark.parametrize(("does", "there"), [(Does.NOTHING, False), (Does.ALL, True)])
def test_killing(mount: Mount, at: Path, does: Does, there: bool) -> None:
    """Who asks can be killed, with what was asked done or not; the mount goes on."""
    mount.tell(Misbehaviour("rename", "SIGKILL", does))
    words = [sys.executable, "-c", "import os, sys; os.rename(*sys.argv[1:])", str(at / "file"), str(at / "new")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert (at / "new").exists() is there


def test_times(mount: Mount, at: Path) -> None:
    """Times are told as a mount keeps them."""
    second, before = 10**9, -157_680_000
    for times, told in (
        (Times(), before * second + 1),
        (Times(step=2 * second), before * second),
        (Times(earliest=0), 0),
        (Times(wrap=32), (2**32 + before) * second + 1),
        (Times(shift=3600 * second), (before + 3600) * second + 1),
    ):
        mount.tell(times=times)
        os.utime(at / "file", ns=(0, before * second + 1))
        assert (at / "file").stat().st_mtime_ns == told


@pytest.mark.parametrize(
    "told",
    [
        {"operation": "chmod", "does": Does.HALF},
        {"operation": "open"},
        {"operation": "open", "error": "EWHATEVER"},
        {"operation": "sing", "error": "EIO"},
    ],
)
def test_impossible(told: dict[str, object]) -> None:
    """What no mount can do is refused where it is written down."""
    with pytest.raises((ValueError, AttributeError)):
        Misbehaviour(**told)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_machines_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: type[BaseException]
) -> None:
    """Where nothing can be mounted a test is skipped, in words; in CI it fails."""
    monkeypatch.setattr(mount_module, "DEVICE", tmp_path / "none")
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=r"nothing can be mounted: .*none cannot be opened here"):
        require()


def test_gone_with_open_files(tmp_path: Path) -> None:
    """A mount is gone at the end though files in it are open, and though the test failed."""
    seen: list[tuple[Path, FileIO]] = []

    def fail() -> None:
        with mounted(tmp_path) as mount:
            seen.append((mount.at, (mount.at / "file").open("wb", buffering=0)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    [(at, file)] = seen
    assert not mounts(at)
    with pytest.raises(OSError, match="not connected"):
        file.write(b"data")
    with pytest.raises(OSError, match="not connected"):
        file.close()


def test_gone_after_a_crash(tmp_path: Path) -> None:
    """Where the file system's process died every call fails at once, and the mount is gone at the end."""
    with mounted(tmp_path) as mount:
        mount.kill()
        with pytest.raises(OSError, match="not connected"):
            os.listdir(mount.at)
    assert not mounts(mount.at)


def test_gone_with_its_parent(tmp_path: Path) -> None:
    """Where the process that asked for it is gone, so is the mount."""
    with mounted(tmp_path) as mount:
        mount.let_go()
        deadline = time.monotonic() + DEADLINE
        while mounts(mount.at):
            assert time.monotonic() < deadline
            time.sleep(0.01)
