"""A real OpenSSH server for tests: its own keys and files in one directory, a port of the system's choice."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from tests.servers.ports import free_port

DEADLINE = 15.0
"""Seconds for the server to answer, or to be gone."""
PASSPHRASE = "open sesame"
MODULI = Path("/etc/ssh/moduli")

_KINDS = ("ed25519", "ecdsa", "rsa")

_CONFIG = """\
# As in a shell within a shell: bash then reads none of the user's start-up files, which may do and cost anything.
SetEnv SHLVL=2
ListenAddress 127.0.0.1
Port {port}
{host_keys}
AuthorizedKeysFile {directory}/authorized_keys
PidFile {directory}/sshd.pid
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
LogLevel VERBOSE
MaxStartups 100
ModuliFile {directory}/moduli
"""
_SMALLEST_GROUPS = "2047"
"""The size, in moduli(5), of groups that a client has soon checked: larger ones take it seconds."""


class Sshd:
    """An sshd on 127.0.0.1 that lets the present user in with a key, and serves SFTP.

    ``directory`` holds all that it needs; the server's user must be able to enter it (``open_directory``). ``config``
    is put before the rest of its sshd_config, where the first word on a matter counts. ``restart`` keeps port and keys.

        sshd = Sshd(open_directory)
        sshd.start()
        ... sshd.url, sshd.known_hosts, sshd.private_key ...
        sshd.stop()
    """

    def __init__(self, directory: Path, *, config: str = "") -> None:
        self.directory = directory
        self.root = directory / "root"
        """Files that ``url`` names."""
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.known_hosts = directory / "known_hosts"
        self.private_key = directory / "client_ed25519"
        self.passphrase_file = directory / "passphrase"
        self.config = config
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.root.mkdir(parents=True, exist_ok=True)
        self._make_keys()

    @property
    def url(self) -> str:
        """The URL of ``root``."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}{self.root}"

    @property
    def log(self) -> str:
        """What the server has told so far."""
        path = self.directory / "sshd.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The listening process; each connection has one of its own below it."""
        assert self._process is not None
        return self._process.pid

    def client_key(self, kind: str, *, passphrase: bool = False) -> Path:
        """Return another private key that lets in: "ed25519", "ecdsa" or "rsa", under ``PASSPHRASE`` if asked."""
        path = self.directory / f"client_{kind}{'_encrypted' if passphrase else ''}"
        if not path.exists():
            _place_key(path, kind, PASSPHRASE if passphrase else "")
            self._authorize(path)
        return path

    def host_key(self, kind: str = "ed25519") -> str:
        """Return the public half of one of the server's own keys, "KIND BASE64"."""
        return " ".join((self.directory / f"host_{kind}.pub").read_text().split()[:2])

    def connections(self) -> list[int]:
        """Return the processes that serve a connection each (root's monitors, not their unprivileged children)."""
        return _children(self.pid)

    def cut(self) -> None:
        """Kill every connection as one, and leave the server listening."""
        assert self._process is not None
        pids = descendants(self.pid)
        for kind in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                _signal(pid, kind)

    def start(self) -> None:
        """Start, and wait until it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        path = self.directory / "sshd_config"
        subsystem = "" if "subsystem" in self.config.lower() else "Subsystem sftp internal-sftp\n"
        host_keys = (
            ""
            if "hostkey " in self.config.lower()
            else "\n".join(f"HostKey {self.directory}/host_{kind}" for kind in _KINDS)
        )
        rest = _CONFIG.format(port=self.port, directory=self.directory, host_keys=host_keys)
        path.write_text(f"{self.config}\n{rest}{subsystem}")
        command = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(path)]
        with (self.directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End the server and its connections."""
        process, self._process = self._process, None
        if process is None:
            return
        left = descendants(process.pid)
        process.terminate()
        process.wait(DEADLINE)
        for pid in left:
            _signal(pid, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

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
        raise AssertionError(f"sshd does not answer:\n{self.log}")

    def _make_keys(self) -> None:
        for kind in _KINDS:
            _place_key(self.directory / f"host_{kind}", kind)
        groups = [line for line in MODULI.read_text().splitlines() if line.split()[4:5] == [_SMALLEST_GROUPS]]
        (self.directory / "moduli").write_text("\n".join(groups) + "\n")
        _place_key(self.private_key, "ed25519")
        self._authorize(self.private_key)
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{self.port} {self.host_key(kind)}\n" for kind in _KINDS))
        self.passphrase_file.write_text(f"{PASSPHRASE}\n")
        self.passphrase_file.chmod(0o600)

    def _authorize(self, key: Path) -> None:
        with (self.directory / "authorized_keys").open("a") as file:
            file.write(key.with_name(f"{key.name}.pub").read_text())


def _place_key(path: Path, kind: str, passphrase: str = "") -> None:
    """Have a pair of keys at ``path``: all servers of one run have the same under the same name, to save the time."""
    private, public = _generated(path.name, kind, passphrase)
    path.touch(0o600)
    path.write_bytes(private)
    path.with_name(f"{path.name}.pub").write_bytes(public)


@cache
def _generated(name: str, kind: str, passphrase: str) -> tuple[bytes, bytes]:
    """Return the private and the public key called ``name``, as they stand in files."""
    size = ["-b", "2048"] if kind == "rsa" else []  # made in a third of the time of the default's
    with tempfile.TemporaryDirectory(prefix="datamover-keys-") as directory:
        path = Path(directory, name)
        command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path.read_bytes(), path.with_name(f"{name}.pub").read_bytes()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``."""
    return [below for child in _children(pid) for below in (child, *descendants(child))]


def _signal(pid: int, kind: signal.Signals) -> None:
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        return
