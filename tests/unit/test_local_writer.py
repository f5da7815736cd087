"""Writing a local file: what is in it, whatever goes past the page cache."""

import os
import time
from collections.abc import Iterator
from fcntl import F_GETFL, fcntl
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from datamover.protocols.lacks import Lacks
from datamover.protocols.local.direct import BLOCK, Direct
from datamover.protocols.local.writer import CACHED, FileWriter

SIZE = CACHED + 5 * 2**20 + 1234


@pytest.fixture(params=["disk", "memory"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Return a file that is empty, on a disk or on a file system in memory, which may know no direct I/O."""
    if request.param == "disk":
        path = tmp_path / "file"
        path.touch()
        yield path
        return
    with TemporaryDirectory(dir="/dev/shm") as directory:
        path = Path(directory) / "file"
        path.touch()
        yield path


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY)


def pieces(data: bytes, random: Random) -> Iterator[list[bytes]]:
    """Cut into lists of pieces of all sizes."""
    at = 0
    while at < len(data):
        sizes = [random.choice((1, BLOCK, 70_001, 2**18, 2**20)) for _ in range(random.randint(1, 4))]
        some: list[bytes] = []
        for size in sizes:
            some.append(data[at : at + size])
            at += size
        yield some


def is_direct(descriptor: int) -> bool:
    return bool(fcntl(descriptor, F_GETFL) & os.O_DIRECT)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("start", [0, 1, CACHED - 1, CACHED, CACHED + 77, CACHED + BLOCK])
def test_what_is_put_is_in_the_file(file: Path, start: int, seed: int) -> None:
    """Byte for byte, from whatever offset, in whatever pieces, flushed at whatever time."""
    random = Random(seed)
    data = random.randbytes(SIZE)
    file.write_bytes(data[:start])
    writer = FileWriter(opened(file), start, Lacks(time.monotonic))
    at = start
    for some in pieces(data[start:], random):
        at += sum(map(len, some))
        if random.random() < 0.3:
            assert writer.drain(some) == at
            writer.sync()
            assert file.read_bytes()[:at] == data[:at]
        else:
            assert writer.put(some) == at
    assert writer.finish([], 0o640, 1e9) == SIZE
    assert file.read_bytes() == data
    assert file.stat().st_mtime == 1e9
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_longer_predecessor_is_cut(file: Path) -> None:
    """What stood behind the last byte is gone."""
    file.write_bytes(bytes(SIZE + BLOCK * 3))
    writer = FileWriter(opened(file), 0, Lacks(time.monotonic))
    writer.put([b"x" * (CACHED + 1)])
    assert writer.finish([b"y"], 0o600, None) == CACHED + 2
    assert file.read_bytes() == b"x" * (CACHED + 1) + b"y"


def test_a_large_file_goes_past_the_cache(tmp_path: Path) -> None:
    """Its body does, where the disk can; its beginning and a small file do not."""
    path = tmp_path / "file"
    path.touch()
    probe = opened(path)
    possible = Direct(probe, 0, BLOCK).begin()
    os.close(probe)
    descriptor = opened(path)
    writer = FileWriter(descriptor, 0, Lacks(time.monotonic))
    writer.put([b"x" * CACHED])
    assert not is_direct(descriptor)
    writer.put([b"y" * 2**20])
    assert is_direct(descriptor) is possible
    writer.close()


def test_a_disk_that_wants_other_blocks(file: Path) -> None:
    """What the disk refuses to take directly is written through the cache, and everything after it."""
    descriptor = opened(file)
    direct = Direct(descriptor, 7, BLOCK)
    direct.begin()
    direct.put([b"a" * BLOCK, b"b" * 3])
    direct.end()
    assert not is_direct(descriptor)
    os.ftruncate(descriptor, 7 + BLOCK + 3)
    os.close(descriptor)
    assert file.read_bytes() == bytes(7) + b"a" * BLOCK + b"bbb"


def test_once_failed_always(file: Path) -> None:
    """After a write that failed nothing more is written, and nothing is said to be flushed."""
    descriptor = os.open(file, os.O_RDONLY)
    writer = FileWriter(descriptor, 0, Lacks(time.monotonic))
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.put([b"x"])
    for call in (lambda: writer.put([]), lambda: writer.drain([]), writer.sync, lambda: writer.finish([], 0o600, None)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
    writer.close()
