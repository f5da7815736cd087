"""Dropbear, an SSH server for small machines, with OpenSSH's sftp-server; its windows have 24 kB."""

import glob
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ssh import NOBODY, SshServer, public_half
from tests.servers.sshd import SFTP_SERVER

_WRAPPER = "/usr/lib/*/libnss_wrapper.so"
"""Makes the C library read users from a file (Debian: libnss-wrapper)."""


class Dropbear(SshServer):
    """A dropbear on 127.0.0.1 that accepts the current user with a key, and serves SFTP.

    Dropbear reads ``authorized_keys`` only in the user's home, so for this process the current user has another home,
    in ``directory``.
    """

    program = "dropbear"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / ".ssh").mkdir(mode=0o700)
        self._let_in("")
        entry = f"{self.user}:x:{os.geteuid()}:{os.getegid()}::{directory}:/bin/sh\n"
        (directory / "passwd").write_text(entry)
        (directory / "group").write_text(f"{self.user}:x:{os.getegid()}:\n")

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve as nobody within the block: the key's command is read at each login."""
        if os.geteuid() == 0:
            self._let_in(f"{shutil.which('setpriv')} --reuid={NOBODY} --regid={NOBODY} --clear-groups ")
        try:
            yield
        finally:
            self._let_in("")

    def command(self) -> Sequence[str]:
        key = self.directory / "dropbear_host_key"
        if not key.exists():
            convert = shutil.which("dropbearconvert", path=f"{os.environ['PATH']}:/usr/lib/dropbear")
            assert convert is not None
            told = [convert, "openssh", "dropbear", str(self._host_key("ed25519")), str(key)]
            subprocess.run(told, check=True, capture_output=True)
        pid = str(self.directory / "dropbear.pid")
        return ["-F", "-E", "-s", "-m", "-r", str(key), "-p", f"127.0.0.1:{self.port}", "-P", pid]

    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": next(glob.iglob(_WRAPPER)),
            "NSS_WRAPPER_PASSWD": str(self.directory / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.directory / "group"),
        }

    def _let_in(self, become: str) -> None:
        path = self.directory / ".ssh/authorized_keys"
        path.touch(0o600)
        path.write_text(f'command="{become}{SFTP_SERVER}" {public_half(self.private_key).read_text()}')
