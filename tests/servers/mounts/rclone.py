"""``rclone mount``, with which cloud storage is mounted, here over a directory of this machine."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.mounts.mount import DEADLINE, mounts, require, unmount
from tests.servers.rclone import CURRENT

MODES = ("off", "writes", "full")
"""The modes of its disk cache: off, so that files can only be written in order; files that are written; files that are
read too."""

_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""Makes it unmount when the tests are ended."""


@contextmanager
def rclone_mounted(back: Path, directory: Path, mode: str) -> Iterator[Path]:
    """Mount ``back`` below ``directory`` by rclone, with one of its ``MODES``.

    It caches directories. A cached file is written to ``back`` a second after it was closed; without that delay it
    loses files that are renamed meanwhile.
    """
    require()
    at = directory / "rclone"
    at.mkdir(parents=True)
    log = directory / "rclone.log"
    command = [
        *_WITH_US,
        *(CURRENT, "mount", str(back), str(at), "--vfs-cache-mode", mode, "--vfs-write-back", "1s"),
        # It reports errors instead of retrying for minutes.
        *("--retries", "1", "--low-level-retries", "1"),
    ]
    environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(directory / "cache")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while not mounts(at):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield at
    finally:
        if mounts(at):
            unmount(at)
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
