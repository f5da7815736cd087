"""What the SSH servers of the tests have in common: keys, a port, one directory, a process that is waited for."""

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

DEADLINE = 15.0
"""Seconds for a server to answer, or to be gone."""
NOBODY = 65534


class SshServer:
    """A server program on 127.0.0.1 that lets ``user`` in with ``private_key``; a subclass gives its ``command``.

    ``directory`` holds all that it needs; a server that runs as somebody else must be able to enter it
    (``open_directory``). ``restart`` keeps port and keys.

        server = Proftpd(open_directory)
        server.start()
        ... server.url, server.known_hosts, server.private_key ...
        server.stop()
    """

    program: str
    """What is run, found in the places where servers are."""
    host_kinds: Sequence[str] = ("ed25519",)
    """Of the server's own keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        """Files that ``url`` names."""
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
        """Write what the program reads, and return how it is called; asked at every start."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return what the program finds in its environment beside the tests' own."""
        return {}

    @property
    def url(self) -> str:
        """The URL of ``root``."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}{self.served}"

    @property
    def served(self) -> str:
        """What ``root`` is called by the server's clients."""
        return str(self.root)

    @property
    def log(self) -> str:
        """What the server has told so far."""
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
        """Serve, within, as somebody whom permissions bind and who owns nothing, to those who connect meanwhile."""
        raise NotImplementedError
        yield

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [find(self.program), *self.command()]
        with (self.directory / "server.log").open("ab") as log:
            self._process = self.spawn(command, {**os.environ, **self.environment()}, log.fileno())
        self._wait_until_it_answers()

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
        """Start the program; what it says goes to the descriptor ``log``."""
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
    """Return where a program is; servers are where an ordinary user's PATH does not look."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found is not None, f"{program} is not installed (make system)"
    return found


# Keys ---------------------------------------------------------------------------------------------------------


def place_key(path: Path, kind: str, passphrase: str = "") -> None:
    """Have a pair of keys at ``path``: all servers of one run have the same under the same name, to save the time."""
    private, public = _generated(path.name, kind, passphrase)
    path.touch(0o600)
    path.write_bytes(private)
    public_half(path).write_bytes(public)


def public_half(path: Path) -> Path:
    """Return where the public key of the private key at ``path`` is."""
    return path.with_name(f"{path.name}.pub")


@cache
def _generated(name: str, kind: str, passphrase: str) -> tuple[bytes, bytes]:
    """Return the private and the public key called ``name``, as they stand in files."""
    size = ["-b", "2048"] if kind == "rsa" else []  # made in a third of the time of the default's
    with tempfile.TemporaryDirectory(prefix="datamover-keys-") as directory:
        path = Path(directory, name)
        command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path.read_bytes(), public_half(path).read_bytes()


# Processes ----------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Return the processes that ``pid`` started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``."""
    return [below for child in children(pid) for below in (child, *descendants(child))]


def send_signal(pid: int, kind: signal.Signals) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        return
