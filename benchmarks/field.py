"""The environment of the rows: a directory on a disk, nginx, sshd, a long path, datamover, and the peers' programs.

Nothing is measured here. Everything listens on 127.0.0.1 and is ended with the field.
"""

import atexit
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xmlrpc.client import ServerProxy

from tests.servers.nginx import Nginx
from tests.servers.rclone import CURRENT
from tests.servers.service import Service
from tests.servers.sshd import Sshd

ONE_WAY = 25
"""Milliseconds of delay each way on the long path."""
FILES_AT_ONCE = 32
"""Files that aria2 and rclone move concurrently."""
OURS_AT_ONCE = 128
"""Files that datamover moves concurrently; a file counts until its outcome is on disk in the database."""
SMALL_FILE = 10_000
_NUMBERS = itertools.count()
MEBIBYTE = 2**20


@cache
def _aside() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="datamover-bench-aside-", dir=os.environ.get("BENCH_DIRECTORY")))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


class Field:
    """A context manager; ``config`` is added to datamover's configuration, beginning with keys of [service].

    HERE in it is replaced by the directory that files are moved to.
    """

    def __init__(self, config: str = "") -> None:
        self._config = config
        self._started: list[Any] = []
        self._proxies: list[subprocess.Popen[str]] = []
        self._files: set[Path] = set()

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="datamover-bench-", dir=os.environ.get("BENCH_DIRECTORY")))
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        self.directory.chmod(0o755)
        self.web_root = self.directory / "web"
        self.here = self.directory / "here"
        for each in (self.web_root, self.here):
            each.mkdir()
        self.sshd = self._run(Sshd(self._made("sshd")))
        self.roots = [self.here, self.sshd.root]
        """Where files are moved to, by names that begin with "moved"."""
        self.nginx = self._run(
            Nginx(self.web_root, config="autoindex on; keepalive_requests 100000;\nlocation /slow { limit_rate 4k; }")
        )
        self.far_port = self._delayed(self.sshd.port)
        known = self.sshd.known_hosts
        known.write_text(
            known.read_text()
            + "".join(
                f"[127.0.0.1]:{self.far_port} {self.sshd.host_key(kind)}\n" for kind in ("ed25519", "ecdsa", "rsa")
            )
        )
        self.service = self._run(Service(self._made("service"), self._tables()))
        self.rclone_config = self.directory / "rclone.conf"
        self.rclone_config.write_text(
            "".join(
                f"[{name}]\ntype = sftp\nhost = 127.0.0.1\nuser = {self.sshd.user}\nport = {port}\n"
                f"key_file = {self.sshd.private_key}\nknown_hosts_file = {known}\n\n"
                for name, port in (("there", self.sshd.port), ("far", self.far_port))
            )
            + f"[web]\ntype = http\nurl = {self.nginx.url}\n"
        )

    def _tables(self) -> str:
        login = f'private_key_file = "{self.sshd.private_key}"\nknown_hosts_file = "{self.sshd.known_hosts}"\n'
        wide = f"max_active = {OURS_AT_ONCE}\n"
        user, root = self.sshd.user, self.sshd.root
        return (
            f"{self._config.replace('HERE', str(self.here))}\n"
            f'[sources]\nallow = ["http://127.0.0.1:*/"]\n'
            f'[destinations.here]\nurl = "file://{self.here}"\n{wide}'
            f'[destinations.there]\nurl = "sftp://{user}@127.0.0.1:{self.sshd.port}{root}"\n{login}{wide}'
            f'[destinations.far]\nurl = "sftp://{user}@127.0.0.1:{self.far_port}{root}"\n{login}{wide}'
        )

    def _made(self, name: str) -> Path:
        directory = self.directory / name
        directory.mkdir()
        return directory

    def _run(self, server: Any) -> Any:
        server.start()
        self._started.append(server)
        return server

    def _delayed(self, port: int) -> int:
        """Return the near end of a long path to a port."""
        command = [sys.executable, "-m", "benchmarks.delay", str(port), str(ONE_WAY)]
        proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._proxies.append(proxy)
        assert proxy.stdout is not None
        return int(proxy.stdout.readline())

    def _end(self) -> None:
        for server in reversed(self._started):
            server.stop()
        for proxy in self._proxies:
            proxy.terminate()
            proxy.wait()
            assert proxy.stdout is not None
            proxy.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Files --------------------------------------------------------------------------------------------------------

    def file(self, path: Path, size: int) -> Path:
        """Return ``path``, which the first call fills with random bytes."""
        if path not in self._files:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for start in range(0, size, MEBIBYTE):
                    file.write(os.urandom(min(MEBIBYTE, size - start)))
            self._files.add(path)
        return path

    def small_files(self, count: int) -> list[str]:
        """Return the names of ``count`` small files that nginx serves, below "small/"."""
        names = [f"small/{number:05}.bin" for number in range(count)]
        for name in names:
            self.file(self.web_root / name, SMALL_FILE)
        return names

    def clear(self) -> None:
        """Remove what was moved, and wait until the disk is idle.

        A file is removed. A directory of many is set aside until the end of all rows, since ext4 checks recently freed
        inodes one by one, and every file of the next round would wait for that.
        """
        for root in self.roots:
            for path in root.glob("moved*"):
                path.rename(_aside() / f"{next(_NUMBERS)}") if path.is_dir() else path.unlink()
        os.sync()

    # The programs -------------------------------------------------------------------------------------------------

    def move(self, request: dict[str, Any]) -> None:
        """Run a job, from the call to the answer that it is COMPLETED."""
        with ServerProxy(self.service.url) as mover:
            status: Any = mover.jobs.submit(request)
            while status["status"] in ("PENDING", "PREPARING", "IN_PROGRESS"):
                status = mover.jobs.wait(status["id"], 60)
        assert status["status"] == "COMPLETED", status

    def rclone(self, *arguments: str) -> None:
        run(CURRENT, "--config", str(self.rclone_config), *arguments)

    def sftp(self, port: int, batch: str) -> None:
        run("sftp", "-q", "-b", "-", *self.login("-P", port), f"{self.sshd.user}@127.0.0.1", stdin=batch)

    def login(self, port_option: str, port: int) -> list[str]:
        """Return the options of OpenSSH's programs."""
        known = f"UserKnownHostsFile={self.sshd.known_hosts}"
        return [
            "-i",
            str(self.sshd.private_key),
            "-o",
            known,
            "-o",
            "BatchMode=yes",
            "-F",
            "none",
            port_option,
            str(port),
        ]

    def flush(self) -> None:
        """Flush what a peer wrote locally, as datamover always does."""
        run("sync", "-f", str(self.here))


def run(*command: str, stdin: str | None = None) -> None:
    """Run a program to its end; raises RuntimeError with its output."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
