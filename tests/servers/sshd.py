"""A real OpenSSH server for tests, with its keys and files in one directory, on a free port."""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ssh import NOBODY, SshServer, children, descendants, place_key, public_half, send_signal

PASSPHRASE = "open sesame"
MODULI = Path("/etc/ssh/moduli")
SFTP_SERVER = next(
    path
    for path in (Path(f"/usr/{home}/sftp-server") for home in ("lib/openssh", "libexec/openssh", "lib/ssh"))
    if path.exists()
)
"""OpenSSH's SFTP server as a separate program."""

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
"""The size, in moduli(5), of groups that a client checks quickly; larger ones take seconds."""


class Sshd(SshServer):
    """An sshd on 127.0.0.1 that accepts the current user with a key, and serves SFTP.

    ``config`` is put before the rest of its sshd_config, since the first value of a keyword counts. ``restart`` keeps
    port and keys.

        sshd = Sshd(open_directory)
        sshd.start()
        ... sshd.url, sshd.known_hosts, sshd.private_key ...
        sshd.stop()
    """

    program = "sshd"
    host_kinds = ("ed25519", "ecdsa", "rsa")

    def __init__(self, directory: Path, *, config: str = "") -> None:
        super().__init__(directory)
        self.passphrase_file = directory / "passphrase"
        self.config = config
        groups = [line for line in MODULI.read_text().splitlines() if line.split()[4:5] == [_SMALLEST_GROUPS]]
        (directory / "moduli").write_text("\n".join(groups) + "\n")
        self._authorize(self.private_key)
        self.passphrase_file.write_text(f"{PASSPHRASE}\n")
        self.passphrase_file.chmod(0o600)

    def client_key(self, kind: str, *, passphrase: bool = False) -> Path:
        """Return another accepted private key: "ed25519", "ecdsa" or "rsa", optionally under ``PASSPHRASE``."""
        path = self.directory / f"client_{kind}{'_encrypted' if passphrase else ''}"
        if not path.exists():
            place_key(path, kind, PASSPHRASE if passphrase else "")
            self._authorize(path)
        return path

    def connections(self) -> list[int]:
        """Return the process of each connection (root's monitors, not their unprivileged children)."""
        return children(self.pid)

    def cut(self) -> None:
        """Kill every connection together; the server keeps listening."""
        pids = descendants(self.pid)
        for kind in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                send_signal(pid, kind)

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve as nobody within the block; if root runs the server, its configuration must include ``binding``."""
        flag = self.directory / BOUND
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()

    def command(self) -> Sequence[str]:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        path = self.directory / "sshd_config"
        subsystem = "" if "subsystem" in self.config.lower() else "Subsystem sftp internal-sftp\n"
        host_keys = (
            ""
            if "hostkey " in self.config.lower()
            else "\n".join(f"HostKey {self._host_key(kind)}" for kind in self.host_kinds)
        )
        rest = _CONFIG.format(port=self.port, directory=self.directory, host_keys=host_keys)
        path.write_text(f"{self.config}\n{rest}{subsystem}")
        return ["-D", "-e", "-f", str(path)]

    def _authorize(self, key: Path) -> None:
        with (self.directory / "authorized_keys").open("a") as file:
            file.write(public_half(key).read_text())


BOUND = "as_nobody"


def binding(directory: Path, arguments: str = "") -> str:
    """Return the Subsystem line of an sshd in ``directory`` whose SFTP runs as nobody while it is ``bound``.

    Only root needs this, since permissions do not apply to root. ``arguments`` are the sftp-server's.
    """
    script = directory / "sftp"
    become = f"{shutil.which('setpriv')} --reuid={NOBODY} --regid={NOBODY} --clear-groups"
    run = f"{SFTP_SERVER} {arguments}"
    script.write_text(f"#!/bin/sh\nif [ -e {directory / BOUND} ]; then exec {become} {run}; fi\nexec {run}\n")
    script.chmod(0o755)
    return f"Subsystem sftp {script}"
