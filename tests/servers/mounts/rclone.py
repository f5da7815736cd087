"""``rclone mount``: what people mount clouds with, here over a directory of this machine."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.mounts.mount import DEADLINE, mounts, require, unmount
from tests.servers.rclone import CURRENT

MODES = ("off", "writes", "full")
"""What it keeps of files on its own disk: nothing, so that they can be written in order alone; those that are written;
those that are read too."""

_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""It unmounts when the tests are ended."""


@contextmanager
def rclone_mounted(back: Path, directory: Path, mode: str) -> Iterator[Path]:
    """Have rclone mount ``back`` below ``directory``, with one of its ``MODES``.

    It believes in a directory as it first saw it. What its cache holds comes to ``back`` a second after it was closed;
    where that is to be at once, it loses files that are renamed meanwhile.
    """
    require()
    at = directory / "rclone"
    at.mkdir(parents=True)
    log = directory / "rclone.log"
    command = [
        *_WITH_US,
        *(CURRENT, "mount", str(back), str(at), "--vfs-cache-mode", mode, "--vfs-write-back", "1s"),
        # Errors are told, and not tried again for minutes.
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
