"""A directory of this machine mounted by FUSE, for tests to write to: it behaves normally unless it is configured.

    with mounted(directory, Misbehaviour("flush", "EDQUOT", Does.LOSES)) as mount:
        ... mount.at, mount.back, mount.tell(...), mount.met() ...

On a machine without FUSE a test that uses a mount is skipped with the reason; if the environment has ``CI``, it fails.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers.mounts.misbehaviour import GOOD, Behaviour, Misbehaviour, Times

DEADLINE = 60.0
"""Seconds in which the file system must answer, or end."""
DEVICE = Path("/dev/fuse")
UNMOUNT = "fusermount3"

_UNCACHED = {"entry_timeout": 0, "attr_timeout": 0, "negative_timeout": 0, "default_permissions": True}
"""The kernel caches nothing: a change of behaviour applies from the next call on."""


def missing() -> str | None:
    """Return what this machine lacks for a mount, None if it has everything."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} cannot be opened here"
    if shutil.which(UNMOUNT) is None:
        return f"there is no {UNMOUNT} here: install fuse3"
    return None


def require() -> None:
    """If nothing can be mounted, skip the current test, or fail it if tests must not be skipped."""
    why = missing()
    if why is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"nothing can be mounted: {why}")
    pytest.skip(f"nothing can be mounted: {why}")


def unmount(at: Path) -> None:
    """Unmount lazily: files in it may still be open."""
    for how in ((), ("-z",)):
        done = subprocess.run([UNMOUNT, "-u", *how, at], capture_output=True, text=True, check=False)
        if done.returncode == 0 or not mounts(at):
            return
    raise RuntimeError(f"{at} stays mounted: {done.stderr}")


def mounts(at: Path) -> list[str]:
    """Return the types of the file systems that are mounted at a directory."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [kind for _, where, kind, *_ in lines if where.encode().decode("unicode_escape") == str(at)]


class Mount:
    """The file system's process, and its configuration. ``directory`` has all its files."""

    def __init__(self, directory: Path, **options: Any) -> None:
        """``options`` are as in mount.fuse3(8)."""
        self.back = directory / "back"
        """The directory behind the mount."""
        self.at = directory / "mount"
        """The mount point."""
        self._log = directory / "mount.log"
        self._options = {**_UNCACHED, "allow_other": os.geteuid() == 0, "use_ino": True, **options}
        self._process: subprocess.Popen[bytes] | None = None
        for path in (self.back, self.at):
            path.mkdir(parents=True)

    @property
    def log(self) -> str:
        """The process's output: empty unless it has a bug."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        """The URL for a destination's configuration."""
        return self.at.as_uri()

    def start(self) -> None:
        """Mount; completes when it is mounted."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.servers.mounts.passthrough",
                    self.back,
                    self.at,
                    json.dumps(self._options),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # A signal that ends the tests and all their processes leaves it the time to unmount.
                start_new_session=True,
            )
        answer = self._read_line()
        if answer != b"ready\n":
            self.stop()
            raise RuntimeError(f"the mount did not come about: {self.log}")

    def tell(self, *misbehaviours: Misbehaviour, times: Times = GOOD) -> None:
        """Replace its misbehaviours, with their counts at 0."""
        self._ask(Behaviour(misbehaviours, times).as_json())

    def met(self) -> list[int]:
        """Return how many calls each of its misbehaviours has affected."""
        counts: list[int] = self._ask(None)
        return counts

    def let_go(self) -> None:
        """Close the process's input, as when this process dies: it unmounts, and ends."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """Kill the process, as a crash would; the mount stays, and every call in it fails (ENOTCONN)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE)

    def stall(self) -> None:
        """Suspend the process, so that every call in the mount waits, as if a server did not answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Unmount, and end the process; calls that still wait for it fail."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.send_signal(signal.SIGCONT)
            if mounts(self.at):
                unmount(self.at)
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(DEADLINE)

    def _ask(self, question: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._read_line())

    def _read_line(self) -> bytes:
        """Return the process's next line; raises an error if it has ended or takes too long."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, line, deadline = self._process.stdout.fileno(), b"", time.monotonic() + DEADLINE
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                break
            piece = os.read(descriptor, 2**16)
            if not piece:
                break
            line += piece
        return line


@contextmanager
def mounted(directory: Path, *misbehaviours: Misbehaviour, times: Times = GOOD, **options: Any) -> Iterator[Mount]:
    """Mount below ``directory`` while the block runs; it is unmounted in any case."""
    require()
    mount = Mount(directory, **options)
    mount.start()
    try:
        mount.tell(*misbehaviours, times=times)
        yield mount
    finally:
        mount.stop()
    assert not mount.log, f"the file system itself fails: {mount.log}"
