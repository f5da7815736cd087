"""A file system that shows a directory of this machine, and misbehaves as configured.

``passthrough.py BACK MOUNT OPTIONS``; the options are those of mount.fuse3(8), as JSON.

It runs in a separate process, over libfuse 3. It prints ``ready`` once it is mounted, and reads lines of JSON from its
standard input: a ``misbehaviour.Behaviour`` takes effect at once, and is answered by ``{}``; ``null`` is answered by
the number of calls that each of its misbehaviours has affected. It unmounts when its input ends.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

os.environ["FUSE_LIBRARY_NAME"] = "fuse3"

import mfusepy

from tests.servers.mounts.misbehaviour import Behaviour, Does
from tests.servers.mounts.rules import Rules

T = TypeVar("T")

_LOOKED_AT = ("st_gid", "st_ino", "st_mode", "st_nlink", "st_uid", "st_blksize", "st_blocks", "st_rdev")
_ROOM = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_flag", "f_frsize")
_OTHERS = bytes(reversed(range(256)))
"""A translation of each byte into another."""
_NOW, _OMIT = 0x3FFFFFFF, 0x3FFFFFFE
"""Nanosecond values with a special meaning (UTIME_NOW, UTIME_OMIT, in utimensat(2))."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file."""

    path: str
    """The path by which it was opened."""
    writable: bool


class Passthrough(mfusepy.Operations):  # type: ignore[misc]
    """The operations, with the deviations of ``Rules``; handles are descriptors of the files behind the mount.

    Nothing is flushed to a disk: tests check the answers, not what remains after a power cut.
    """

    use_ns = True

    def __init__(self, root: str, rules: Rules) -> None:
        self._root = os.fsencode(root)
        self._rules = rules
        self._opened: dict[int, Opened] = {}
        self._pretended: dict[str, str] = {}
        """Names that a link only pretended to make -> the path that the kernel's next ``getattr`` of them uses."""

    def init(self, path: str) -> None:
        print("ready", flush=True)

    # Names ----------------------------------------------------------------------------------------------------

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        def look(does: Does) -> dict[str, int]:
            status = os.lstat(self._at(self._pretended.pop(path, path))) if fh is None else os.fstat(fh.fh)
            shown = {name: getattr(status, name) for name in _LOOKED_AT}
            shown["st_size"] = {Does.NOTHING: 0, Does.HALF: status.st_size // 2}.get(does, status.st_size)
            for name in ("st_atime", "st_mtime", "st_ctime"):
                shown[name] = self._rules.shown(getattr(status, f"{name}_ns"))
            return shown

        return self._ask("getattr", look, path, nothing=lambda: look(Does.NOTHING))

    def readlink(self, path: str) -> str:
        return self._ask("readlink", lambda _: os.fsdecode(os.readlink(self._at(path))), path)

    def opendir(self, path: str) -> int:
        return self._ask("opendir", lambda _: 0, path)

    def releasedir(self, path: str, fh: int) -> None:
        self._do("releasedir", _nothing, path)

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        def names(_: Does) -> list[tuple[str, int]]:
            with os.scandir(self._at(path)) as entries:
                return [(os.fsdecode(entry.name), entry.inode()) for entry in entries]

        found: list[tuple[str, int]] = self._ask("readdir", names, path, nothing=list)
        # The C library omits a name with the inode 0.
        return [(name, {"st_ino": inode}, 0) for name, inode in ((".", 1), ("..", 1), *found)]

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._do("fsyncdir", _nothing, path)

    def statfs(self, path: str) -> dict[str, int]:
        def look(_: Does) -> dict[str, int]:
            status = os.statvfs(self._at(path))
            return {name: getattr(status, name) for name in (*_ROOM, "f_namemax")}

        return self._ask("statfs", look, path, nothing=lambda: {**dict.fromkeys(_ROOM, 0), "f_namemax": 255})

    def mkdir(self, path: str, mode: int) -> None:
        self._do("mkdir", lambda: os.mkdir(self._at(path), mode), path)

    def mknod(self, path: str, mode: int, dev: int) -> None:
        self._do("mknod", lambda: os.mknod(self._at(path), mode), path)

    def rmdir(self, path: str) -> None:
        self._do("rmdir", lambda: os.rmdir(self._at(path)), path)

    def unlink(self, path: str) -> None:
        self._do("unlink", lambda: os.unlink(self._at(path)), path)

    def symlink(self, target: str, source: str) -> None:
        self._do("symlink", lambda: os.symlink(os.fsencode(source), self._at(target)), target)

    def rename(self, old: str, new: str) -> None:
        self._do("rename", lambda: os.rename(self._at(old), self._at(new)), old, new, lost=self._at(new))

    def rename_if(self, old: str, new: str) -> None:
        # The kernel has just checked that the new name is free.
        self._do("exclusive", _nothing, old, new)
        self.rename(old, new)

    def link(self, target: str, source: str) -> None:
        def pretend() -> None:
            self._pretended[target] = source

        def link(_: Does) -> None:
            os.link(self._at(source), self._at(target))

        self._ask("link", link, source, target, nothing=pretend, lost=self._at(target))

    def chmod(self, path: str, mode: int) -> None:
        self._do("chmod", lambda: os.chmod(self._at(path), mode), path, lost=self._at(path))

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._do("chown", lambda: os.lchown(self._at(path), uid, gid), path)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        def set_times() -> None:
            status = os.lstat(self._at(path))
            before = (status.st_atime_ns, status.st_mtime_ns)
            asked = [old if new == _OMIT else new for old, new in zip(before, times or (_NOW, _NOW), strict=True)]
            if _NOW in asked:  # Both times, then.
                os.utime(self._at(path), follow_symlinks=False)
            else:
                os.utime(self._at(path), ns=(asked[0], asked[1]), follow_symlinks=False)

        self._do("utimens", set_times, path, lost=self._at(path))

    # Files ----------------------------------------------------------------------------------------------------

    def create(self, path: str, mode: int, fi: Any) -> None:
        self._open("create", path, fi, lambda flags: os.open(self._at(path), flags | os.O_CREAT, mode))

    def open(self, path: str, fi: Any) -> None:
        self._open("open", path, fi, lambda flags: os.open(self._at(path), flags))

    def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
        def read(does: Does) -> bytes:
            data = os.pread(fi.fh, size, offset)
            return data[: len(data) // 2] if does is Does.HALF else data

        return self._ask("read", read, self._path(fi), nothing=bytes)

    def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
        def write(does: Does) -> int:
            stored = data[: max(1, len(data) // 2)] if does in (Does.HALF, Does.SHORT) else data
            if does is Does.CORRUPTS:
                stored = data.translate(_OTHERS)
            done = 0
            while done < len(stored):
                done += os.pwrite(fi.fh, stored[done:], offset + done)
            return len(stored) if does is Does.SHORT else len(data)

        if fi.flags & os.O_DIRECT:
            self._do("direct", _nothing, self._path(fi))
        return self._ask("write", write, self._path(fi), nothing=lambda: len(data), lost=fi.fh)

    def truncate(self, path: str, length: int, fh: Any = None) -> None:
        if fh is None:
            self._do("truncate", lambda: os.truncate(self._at(path), length), path)
        else:
            self._do("ftruncate", lambda: os.ftruncate(fh.fh, length), self._path(fh))

    def flush(self, path: str, fi: Any) -> None:
        self._do("flush", _nothing, self._path(fi), lost=self._written(fi))

    def fsync(self, path: str, datasync: int, fi: Any) -> None:
        self._do("fsync", _nothing, self._path(fi), lost=self._written(fi))

    def release(self, path: str, fi: Any) -> None:
        try:
            self._do("release", _nothing, self._path(fi), lost=self._written(fi))
        finally:
            del self._opened[fi.fh]
            os.close(fi.fh)

    # ----------------------------------------------------------------------------------------------------------

    def _open(self, operation: str, path: str, fi: Any, opened: Callable[[int], int]) -> None:
        def open_it() -> None:
            # Readable too, so that the amount lost can be determined; offsets are always given.
            access = os.O_RDONLY if fi.flags & os.O_ACCMODE == os.O_RDONLY else os.O_RDWR
            fi.fh = opened(access | fi.flags & (os.O_EXCL | os.O_TRUNC | os.O_NOFOLLOW))
            self._opened[fi.fh] = Opened(path, access == os.O_RDWR)

        if fi.flags & os.O_DIRECT:
            self._do("direct", _nothing, path)
        self._do(operation, open_it, path)

    def _do(self, operation: str, do: Callable[[], object], *paths: str, lost: bytes | int | None = None) -> None:
        """Run a call without a result, under the rules; ``lost`` is the file that may be cut to half."""
        self._ask(operation, lambda _: do(), *paths, nothing=_nothing, lost=lost)

    def _ask(
        self,
        operation: str,
        do: Callable[[Does], T],
        *paths: str,
        nothing: Callable[[], T] | None = None,
        lost: bytes | int | None = None,
    ) -> T:
        """Return a call's answer under the rules; if it must have no effect, that is the result of ``nothing``."""
        found = self._rules.find(operation, [path.lstrip("/") for path in paths])
        if found is None:
            return do(Does.ALL)
        if found.does is not Does.NOTHING:
            answer = do(found.does)
            if found.does is Does.LOSES and lost is not None:
                os.truncate(lost, os.stat(lost).st_size // 2)
            if found.error is None:
                return answer
        elif found.error is None:
            assert nothing is not None, "the rules do not have this"
            return nothing()
        if found.kills:
            _, _, caller = mfusepy.fuse_get_context()
            os.kill(caller, signal.SIGKILL)
        raise OSError(found.number or errno.EIO, os.strerror(found.number))

    def _at(self, path: str) -> bytes:
        return self._root + os.fsencode(path)

    def _path(self, fi: Any) -> str:
        return self._opened[fi.fh].path

    def _written(self, fi: Any) -> int | None:
        """Return the descriptor of a file that is open for writing."""
        return int(fi.fh) if self._opened[fi.fh].writable else None


def _nothing() -> None:
    """Do nothing."""


class Session(mfusepy.FUSE):  # type: ignore[misc]
    """Adds to the bindings: the handle by which a file is truncated, and the conditions of a rename."""

    def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> int:
        self.ftruncate(path, length, fip)
        return 0

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        if flags:
            self.operations.rename_if(os.fsdecode(old), os.fsdecode(new))
        else:
            self.rename_fuse_2(old, new)
        return 0


@dataclass(frozen=True, slots=True)
class Control:
    """Reads the standard input."""

    rules: Rules
    at: str

    def run(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message is None:
                print(json.dumps(self.rules.met), flush=True)
            else:
                self.rules.set(Behaviour.from_json(message))
                print("{}", flush=True)
        subprocess.run(["fusermount3", "-u", "-z", "-q", self.at], check=False, stdin=subprocess.DEVNULL)
        os._exit(0)


def main(back: str, at: str, options: dict[str, Any]) -> None:
    os.umask(0)
    rules = Rules()
    threading.Thread(target=Control(rules, at).run, daemon=True).start()
    Session(Passthrough(back, rules), at, raw_fi=True, foreground=True, nothreads=True, **options)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
