"""The SFTP requests on open files, of one channel."""

import errno
import itertools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.servers.wayward import misbehaviour as sftp
from tests.servers.wayward.misbehaviour import Way
from tests.servers.wayward.packets import ATTRS, DATA, HANDLE, Attributes, Reader, string
from tests.servers.wayward.world import EOF, Answer, Asked, Refused, Ways, World

LARGE = 2**15
"""Bytes of a READ or WRITE that every server accepts."""
LARGEST = 2**18 - 1024
"""Bytes of the largest READ or WRITE, as in OpenSSH's limits."""

_FLAGS = {0x1: "reading", 0x2: "writing", 0x8: "create", 0x10: "truncate", 0x20: "exclusive"}
_BITS = {"create": os.O_CREAT, "truncate": os.O_TRUNC, "exclusive": os.O_EXCL}


@dataclass(slots=True)
class _Open:
    path: str
    descriptor: int
    tags: set[str]
    spool: Path | None = None
    behind: int = 0
    """The offset after the last write."""


class OpenFiles:
    """The open files and directories of one channel."""

    def __init__(self, world: World, numbers: "itertools.count[int]") -> None:
        self._world = world
        self._numbers = numbers
        self._files: dict[bytes, _Open] = {}

    def parsers(self) -> dict[int | str, Callable[[Reader], Asked]]:
        """Return the parsers of requests, by their kind."""
        return {
            3: self._open,
            4: self._close,
            5: self._read,
            6: self._write,
            8: self._look,
            10: self._set,
            sftp.FSYNC: self._sync,
        }

    def end(self) -> None:
        """Close everything; files that would appear when they are closed never appear."""
        for key in list(self._files):
            self._discard(key)

    def _file(self, key: bytes) -> _Open:
        if key not in self._files:
            raise Refused(sftp.FAILURE, "Failure")
        return self._files[key]

    def _open(self, packet: Reader) -> Asked:
        path, flags, attributes = packet.path(), packet.number(), packet.attributes()
        tags = {name for bit, name in _FLAGS.items() if flags & bit}

        def act(ways: Ways) -> Answer:
            mode = 0o666 if attributes.mode is None else stat.S_IMODE(attributes.mode)
            spool = None
            if "writing" in tags and Way.AT_CLOSE in ways:
                spool = self._spool(path, tags)
                descriptor = os.open(spool, os.O_RDWR | os.O_CREAT, mode)
            else:
                descriptor = os.open(path, _bits(tags), mode)
            if "writing" in tags and Way.TRUNCATES in ways:
                os.ftruncate(descriptor, 0)
            key = f"file {next(self._numbers)}".encode()
            self._files[key] = _Open(path, descriptor, tags & {"reading", "writing"}, spool)
            self._world.opened[id(self), key] = path
            return HANDLE, string(key)

        return Asked(sftp.OPEN, [path], act, tags | attributes.tags, {"flags": sorted(tags)})

    def _spool(self, path: str, tags: set[str]) -> Path:
        """Return a hidden file to open instead of ``path``, if ``path`` itself could be opened."""
        there = os.path.exists(path)
        if there and "exclusive" in tags:
            raise FileExistsError(errno.EEXIST, "")
        if not os.path.isdir(os.path.dirname(path)) or not (there or "create" in tags):
            raise FileNotFoundError(errno.ENOENT, "")
        spool = self._world.spools / f"{id(self)}-{next(self._numbers)}"
        if there and "truncate" not in tags:
            spool.write_bytes(Path(path).read_bytes())
        return spool

    def _close(self, packet: Reader) -> Asked:
        key = packet.string()
        file = self._file(key)

        def act(ways: Ways) -> None:
            whole = size = os.fstat(file.descriptor).st_size
            if Way.KEEPS_BELOW in ways:
                size = min(size, ways[Way.KEEPS_BELOW].amount)
            if Way.KEEPS_HALF in ways:
                size //= 2
            if size < whole:
                os.truncate(file.spool or file.path, size)
            if file.spool is not None:
                os.replace(file.spool, file.path)
            self._discard(key)

        return Asked(sftp.CLOSE, [file.path], act, file.tags, _told(key), otherwise=lambda: self._discard(key))

    def _discard(self, key: bytes) -> None:
        file = self._files.pop(key)
        del self._world.opened[id(self), key]
        os.close(file.descriptor)
        if file.spool is not None:
            file.spool.unlink(missing_ok=True)
        if self._world.writers.get(file.path) == key:
            del self._world.writers[file.path]

    def _read(self, packet: Reader) -> Asked:
        key, offset, size = packet.string(), packet.long(), packet.number()
        file = self._file(key)

        def act(ways: Ways) -> Answer:
            most = min(size, LARGEST, ways[Way.SHORT].amount if Way.SHORT in ways else size)
            data = os.pread(file.descriptor, most, offset)
            if not data and Way.EMPTY_AT_END not in ways:
                raise Refused(EOF, "End of file")
            return DATA, string(_other(data) if Way.FALSE in ways else data)

        return Asked(sftp.READ, [file.path], act, _size_tags(size), {**_told(key), "at": offset, "size": size})

    def _write(self, packet: Reader) -> Asked:
        key, offset, data = packet.string(), packet.long(), packet.string()
        file = self._file(key)

        def act(ways: Ways) -> None:
            if Way.IN_ORDER in ways:
                writer = self._world.writers.setdefault(file.path, key)
                if writer != key or offset != file.behind:
                    raise Refused.by(ways[Way.IN_ORDER])
            file.behind = offset + len(data)
            kept = data[: len(data) // 2] if Way.KEEPS_HALF in ways else data
            if Way.KEEPS_BELOW in ways:
                kept = kept[: max(0, ways[Way.KEEPS_BELOW].amount - offset)]
            if kept:
                os.pwrite(file.descriptor, _other(kept) if Way.CORRUPTS in ways else kept, offset)

        size = len(data)
        return Asked(sftp.WRITE, [file.path], act, _size_tags(size), {**_told(key), "at": offset, "size": size})

    def _look(self, packet: Reader) -> Asked:
        file = self._file(packet.string())
        return Asked(sftp.FSTAT, [file.path], lambda ways: told_of(os.fstat(file.descriptor), ways))

    def _set(self, packet: Reader) -> Asked:
        file, attributes = self._file(packet.string()), packet.attributes()
        return Asked(
            sftp.FSETSTAT,
            [file.path],
            lambda _: set_attributes(file.descriptor, attributes),
            attributes.tags,
            {"sets": sorted(attributes.tags)},
        )

    def _sync(self, packet: Reader) -> Asked:
        file = self._file(packet.string())
        return Asked(sftp.FSYNC, [file.path], lambda _: None)  # A test has no power cuts.


def attributes_of(found: os.stat_result, ways: Ways) -> Attributes:
    """Return the attributes of a file."""
    shift = ways[Way.SHIFTS_TIMES].amount if Way.SHIFTS_TIMES in ways else 0
    size = ways[Way.TELLS].amount if Way.TELLS in ways and stat.S_ISREG(found.st_mode) else found.st_size
    return Attributes(
        size=None if Way.NO_SIZE in ways else size,
        mode=None if Way.NO_MODE in ways else found.st_mode,
        times=None if Way.NO_TIMES in ways else (int(found.st_atime) + shift, int(found.st_mtime) + shift),
    )


def told_of(found: os.stat_result, ways: Ways) -> Answer:
    return ATTRS, attributes_of(found, ways).packed()


def set_attributes(what: str | int, attributes: Attributes) -> None:
    """Set the given attributes, of a path or a descriptor."""
    if attributes.size is not None:
        os.truncate(what, attributes.size)
    if attributes.mode is not None:
        os.chmod(what, stat.S_IMODE(attributes.mode))
    if attributes.times is not None:
        os.utime(what, attributes.times)


def _bits(tags: set[str]) -> int:
    writing = os.O_RDWR if "reading" in tags else os.O_WRONLY
    return (writing if "writing" in tags else os.O_RDONLY) | sum(bit for tag, bit in _BITS.items() if tag in tags)


def _size_tags(size: int) -> set[str]:
    return {"large"} if size > LARGE else set()


def _told(key: bytes) -> dict[str, str]:
    return {"handle": key.decode()}


def _other(data: bytes) -> bytes:
    return bytes(255 - byte for byte in data)
