"""The common parts of the tests' SSH servers: keys, a port, one directory, and a process."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.servers.ports import free_port

DEADLINE = 60.0
"""Seconds in which a server must answer, or end."""
NOBODY = 65534


class SshServer:
    """A server program on 127.0.0.1 that accepts ``user`` with ``private_key``; a subclass gives its ``command``.

    ``directory`` has all its files; a server that runs as another user must be able to enter it (``open_directory``).
    ``restart`` keeps port and keys.

        server = Proftpd(open_directory)
        server.start()
        ... server.url, server.known_hosts, server.private_key ...
        server.stop()
    """

    program: str
    """The program's name, looked up in the directories of servers."""
    host_kinds: Sequence[str] = ("ed25519",)
    """The types of the server's own keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        """The directory to which ``url`` points."""
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.known_hosts = directory / "known_hosts"
        self.private_key = directory / "client_ed25519"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.root.mkdir(parents=True, exist_ok=True)
        for kind in self.host_kinds:
            place_key(self._host_key(kind), kind)
        place_key(self.private_key, "ed25519")
        self.known_hosts.write_text(
            "".join(f"[127.0.0.1]:{self.port} {self.host_key(kind)}\n" for kind in self.host_kinds)
        )

    def command(self) -> Sequence[str]:
        """Write the program's files, and return its command line; called at every start."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return what is added to the program's environment."""
        return {}

    @property
    def url(self) -> str:
        """The URL of ``root``."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}{self.served}"

    @property
    def served(self) -> str:
        """The path of ``root`` for the server's clients."""
        return str(self.root)

    @property
    def log(self) -> str:
        """The server's log so far."""
        path = self.directory / "server.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The listening process."""
        assert self._process is not None
        return self._process.pid

    def host_key(self, kind: str = "ed25519") -> str:
        """Return the public half of one of the server's own keys, "KIND BASE64"."""
        return " ".join(public_half(self._host_key(kind)).read_text().split()[:2])

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Within the block, serve new connections as a user without privileges who owns nothing."""
        raise NotImplementedError
        yield

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [find(self.program), *self.command()]
        with (self.directory / "server.log").open("ab") as log:
            self._process = self.spawn(command, {**os.environ, **self.environment()}, log.fileno())
        self._wait_until_it_answers()

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
        """Start the program; its output goes to the descriptor ``log``."""
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def stop(self) -> None:
        """End the server and its connections."""
        process, self._process = self._process, None
        if process is None:
            return
        left = descendants(process.pid)
        process.terminate()
        process.wait(DEADLINE)
        for pid in left:
            send_signal(pid, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _host_key(self, kind: str) -> Path:
        return self.directory / f"host_{kind}"

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise AssertionError(f"{self.program} does not answer:\n{self.log}")


def find(program: str) -> str:
    """Return the path of a program; servers are in directories that an ordinary user's PATH does not have."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found is not None, f"{program} is not installed (make system)"
    return found


# Keys ---------------------------------------------------------------------------------------------------------


def place_key(path: Path, kind: str, passphrase: str = "") -> None:
    """Make a pair of keys at ``path``; servers of one run share the keys of one name, to save time."""
    private, public = _generated(path.name, kind, passphrase)
    path.touch(0o600)
    path.write_bytes(private)
    public_half(path).write_bytes(public)


def public_half(path: Path) -> Path:
    """Return the path of the public key for the private key at ``path``."""
    return path.with_name(f"{path.name}.pub")


@cache
def _generated(name: str, kind: str, passphrase: str) -> tuple[bytes, bytes]:
    """Return the content of the private and the public key file called ``name``."""
    size = ["-b", "2048"] if kind == "rsa" else []  # a third of the default's time
    with tempfile.TemporaryDirectory(prefix="datamover-keys-") as directory:
        path = Path(directory, name)
        command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path.read_bytes(), public_half(path).read_bytes()


# Processes ----------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Return the child processes of ``pid``."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Return all descendants of ``pid``."""
    return [below for child in children(pid) for below in (child, *descendants(child))]


def send_signal(pid: int, kind: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        return
