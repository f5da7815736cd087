"""ProFTPD's SFTP (mod_sftp) from Debian's packages, with its users, keys and files in one directory."""

import grp
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ssh import NOBODY, SshServer, public_half

_CONFIG = """\
ModulePath /usr/lib/proftpd
LoadModule mod_sftp.c
ServerName datamover
ServerType standalone
DefaultAddress 127.0.0.1
Port {port}
User {user}
Group {group}
PidFile {directory}/proftpd.pid
ScoreboardFile {directory}/scoreboard
DelayTable none
ControlsEngine off
SystemLog {directory}/proftpd.log
TransferLog none
WtmpLog off
UseReverseDNS off
AuthOrder mod_auth_file.c
AuthUserFile {directory}/users
RequireValidShell off
RootLogin on
UseFtpUsers off
Umask 022
AllowOverwrite on
AllowStoreRestart on
AllowRetrieveRestart on
MaxLoginAttempts 10
SFTPEngine on
SFTPLog {directory}/sftp.log
SFTPHostKey {host_key}
SFTPAuthMethods publickey
SFTPAuthorizedUserKeys file:{directory}/authorized_keys
"""


class Proftpd(SshServer):
    """A proftpd on 127.0.0.1 that accepts the current user with a key, and serves SFTP.

    ``config`` is appended to its configuration, such as ``<Limit SITE_CHMOD>\\nDenyAll\\n</Limit>``.
    """

    program = "proftpd"

    def __init__(self, directory: Path, *, config: str = "") -> None:
        super().__init__(directory)
        self.config = config
        self._let_in(os.geteuid(), os.getegid())
        # mod_sftp reads the keys of users in the form of RFC 4716.
        told = subprocess.run(
            ["ssh-keygen", "-e", "-f", str(public_half(self.private_key))], check=True, capture_output=True
        )
        (directory / "authorized_keys").write_bytes(told.stdout)

    @property
    def log(self) -> str:
        logs = (self.directory / name for name in ("server.log", "proftpd.log", "sftp.log"))
        return "".join(path.read_text("utf-8", "replace") for path in logs if path.exists())

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve as nobody within the block: a session takes the user of the users file when it begins."""
        if os.geteuid() == 0:
            self._let_in(NOBODY, NOBODY)
        try:
            yield
        finally:
            self._let_in(os.geteuid(), os.getegid())

    def command(self) -> Sequence[str]:
        path = self.directory / "proftpd.conf"
        rest = _CONFIG.format(
            port=self.port,
            directory=self.directory,
            user=self.user,
            group=grp.getgrgid(os.getegid()).gr_name,
            host_key=self._host_key("ed25519"),
        )
        path.write_text(f"{rest}{self.config}\n")
        return ["--nodaemon", "--quiet", "--config", str(path)]

    def _let_in(self, uid: int, gid: int) -> None:
        path = self.directory / "users"
        path.touch(0o600)
        path.write_text(f"{self.user}:*:{uid}:{gid}::{self.root}:/bin/sh\n")
