"""Real FTP servers on 127.0.0.1, each with and without TLS: vsftpd, ProFTPD, pyftpdlib, rclone.

They serve one user, ``USER`` with ``PASSWORD``, over the whole disk, so that links may lead out of ``root``, or over
``root`` alone.
"""

import os
import signal
import subprocess
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.certificates import Authority
from tests.servers.ports import free_port
from tests.servers.processes import Process
from tests.servers.ssh import NOBODY, descendants, find, send_signal

USER, PASSWORD = "portal", "pässword"
_WRAPPER = "libnss_wrapper.so"
_VSFTPD = """\
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=NO
local_enable=YES
write_enable=YES
local_umask=022
secure_chroot_dir={directory}/empty
pasv_address=127.0.0.1
pam_service_name=other
seccomp_sandbox=NO
session_support=NO
xferlog_enable=NO
"""
_VSFTPD_TLS = """\
ssl_enable=YES
force_local_data_ssl=YES
force_local_logins_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file={certificate}
rsa_private_key_file={key}
"""
_PROFTPD = """\
ModulePath /usr/lib/proftpd
ServerName datamover
ServerType standalone
DefaultAddress 127.0.0.1
Port {port}
User {user}
Group {group}
PidFile {directory}/pid
ScoreboardFile {directory}/scoreboard
DelayTable none
ControlsEngine off
SystemLog {directory}/log
TransferLog none
WtmpLog off
UseReverseDNS off
AuthOrder mod_auth_file.c
AuthUserFile {directory}/users
RequireValidShell off
RootLogin on
UseFtpUsers off
Umask 022
ShowSymlinks on
ListOptions "-a"
"""
_PROFTPD_ALLOWS = """\
AllowOverwrite on
AllowStoreRestart on
"""
_PROFTPD_TLS = """\
LoadModule mod_tls.c
TLSEngine on
TLSLog {directory}/tls.log
TLSRequired on
TLSRSACertificateFile {certificate}
TLSRSACertificateKeyFile {key}
"""
_PYFTPDLIB = """\
import os
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer

port, user, password, root, certificate, key, rate = sys.argv[1:]
handler = TLS_FTPHandler if certificate else FTPHandler
if rate:

    class Slow(ThrottledDTPHandler, handler.dtp_handler):
        read_limit = int(rate)

    handler.dtp_handler = Slow
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(user, password, root, perm=os.environ.get("PERMITTED", "elradfmwMT"))
if certificate:
    handler.certfile, handler.keyfile = certificate, key
    handler.tls_control_required = handler.tls_data_required = True
if os.environ.get("TELLS_ROOM"):

    class Roomy(handler):
        proto_cmds = {**handler.proto_cmds, "AVBL": {"perm": "l", "auth": True, "arg": None, "help": "AVBL [path]"}}

        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self._extra_feats = [*self._extra_feats, "AVBL"]

        def ftp_AVBL(self, path):
            status = os.statvfs(path)
            self.respond(f"213 {status.f_bavail * status.f_frsize}")

    handler = Roomy
FTPServer(("127.0.0.1", int(port)), handler).serve_forever()
"""


class FtpServer(ABC):
    """A server whose files lie in ``root``. ``authority`` signs its certificate: without one there is no TLS."""

    served = "/"
    """The path of ``root`` in its URLs."""

    def __init__(self, directory: Path, authority: Authority | None = None, *, config: str = "") -> None:
        self.directory = directory
        self.root = directory / "root"
        self.root.mkdir()
        self.port = free_port()
        self.password_file = directory / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        self.authority = authority
        self.config = config
        self.certificate: Path | None = None
        self.key: Path | None = None
        if authority is not None:
            self.certificate, self.key = authority.issue()
        self._process: Process | None = None
        self._become: list[str] = []

    @property
    def url(self) -> str:
        return f"ftp://{USER}@127.0.0.1:{self.port}{self.served}"

    @property
    def options(self) -> dict[str, Any]:
        """The keys of a destination's table."""
        secure = {"tls": "none"} if self.authority is None else {"ca_file": str(self.authority.file)}
        return {"password_file": str(self.password_file), **secure}

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Write its files, and return its command line."""

    def environment(self) -> Mapping[str, str]:
        return {}

    def start(self) -> None:
        """Start it; returns when it answers."""
        command = [*self._become, *self.command()]
        environment = {**os.environ, **self.environment()}
        self._process = Process(command, self.port, self.directory / "log", environment)
        self._process.wait()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            left = descendants(process.pid)
            process.stop()
            for pid in left:
                send_signal(pid, signal.SIGKILL)

    def disconnect(self) -> None:
        """End what serves a connection; the next login begins another."""
        assert self._process is not None
        for pid in descendants(self._process.pid):
            send_signal(pid, signal.SIGKILL)

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve as nobody within the block: another process on the same port; connections break."""
        if os.geteuid() != 0:
            yield
            return
        self._become = [find("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        self.stop()
        self.start()
        try:
            yield
        finally:
            self._become = []
            self.stop()
            self.start()


class _WithUsers(FtpServer):
    """A server that takes the user's number from a file, when a login begins."""

    @property
    def served(self) -> str:  # type: ignore[override]
        return f"/{self.root}"

    @contextmanager
    def bound(self) -> Iterator[None]:
        self._let_in(NOBODY if os.geteuid() == 0 else os.geteuid())
        self.disconnect()
        try:
            yield
        finally:
            self._let_in(os.geteuid())
            self.disconnect()

    def start(self) -> None:
        self._let_in(os.geteuid())
        super().start()

    def _let_in(self, user: int) -> None:
        path = self.directory / "users"
        path.touch(0o600)
        path.write_text(f"{USER}:{_hashed()}:{user}:{user}::{self.root}:/bin/sh\n{self._others}")

    _others = ""


class Vsftpd(_WithUsers):
    """vsftpd, which wants data connections to go on with the session of the control connection."""

    _others = "root:*:0:0::/root:/bin/sh\nnobody:*:65534:65534::/:/bin/sh\nftp:*:65534:65534::/:/bin/sh\n"

    def command(self) -> Sequence[str]:
        (self.directory / "empty").mkdir(exist_ok=True)
        (self.directory / "groups").write_text("root:x:0:\nnogroup:x:65534:\n")
        text = _VSFTPD.format(port=self.port, directory=self.directory) + self.config
        if self.certificate:
            text += _VSFTPD_TLS.format(certificate=self.certificate, key=self.key)
        path = self.directory / "vsftpd.conf"
        path.write_text(text)
        unpacked = "/opt/vsftpd/usr/sbin/vsftpd"
        return [unpacked if Path(unpacked).exists() else find("vsftpd"), str(path)]

    def environment(self) -> Mapping[str, str]:
        # No account of this machine is made for it.
        return {
            "LD_PRELOAD": _WRAPPER,
            "NSS_WRAPPER_PASSWD": str(self.directory / "users"),
            "NSS_WRAPPER_GROUP": str(self.directory / "groups"),
        }


class ProftpdFtp(_WithUsers):
    """ProFTPD, which wants the same of data connections by default."""

    allows = _PROFTPD_ALLOWS
    """What it does not do by default."""

    def command(self) -> Sequence[str]:
        names = {"user": "root" if os.geteuid() == 0 else USER, "group": "root" if os.geteuid() == 0 else USER}
        text = _PROFTPD.format(port=self.port, directory=self.directory, **names) + self.allows
        if self.certificate:
            text += _PROFTPD_TLS.format(directory=self.directory, certificate=self.certificate, key=self.key)
        text += self.config
        path = self.directory / "proftpd.conf"
        path.write_text(text + "\n")
        return [find("proftpd"), "--nodaemon", "--quiet", "--config", str(path)]


class ProftpdByDefault(ProftpdFtp):
    """ProFTPD as it is without being told: files are not written over, nor renamed onto others, nor written on."""

    allows = ""


class Pyftpdlib(FtpServer):
    """pyftpdlib, which shows its clients ``root`` and nothing else."""

    def command(self) -> Sequence[str]:
        path = self.directory / "serve.py"
        path.write_text(_PYFTPDLIB)
        pair = (str(self.certificate or ""), str(self.key or ""))
        if self.key is not None:
            self.key.chmod(0o644)  # It may be nobody's to read.
        arguments = [str(self.port), USER, PASSWORD, str(self.root), *pair, self.config]
        return [sys.executable, "-W", "ignore", str(path), *arguments]


class RoomyFtp(Pyftpdlib):
    """pyftpdlib with AVBL, which it does not have of its own."""

    def environment(self) -> Mapping[str, str]:
        return {"TELLS_ROOM": "yes"}


class ReadOnlyFtp(Pyftpdlib):
    """pyftpdlib whose user may write nothing."""

    def environment(self) -> Mapping[str, str]:
        return {"PERMITTED": "elr"}


class RcloneFtp(FtpServer):
    """``rclone serve ftp``, over rclone's view of a directory."""

    def command(self) -> Sequence[str]:
        return [
            str(Path(sysconfig.get_path("scripts"), "rclone")),
            "serve",
            "ftp",
            str(self.root),
            "--addr",
            f"127.0.0.1:{self.port}",
            "--user",
            USER,
            "--pass",
            PASSWORD,
            "--dir-cache-time",
            "1ms",
            *self.config.split(),
        ]

    def environment(self) -> Mapping[str, str]:
        return {"RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(self.directory / "cache")}


def _hashed() -> str:
    command = ["openssl", "passwd", "-6", "-salt", "salt", PASSWORD]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
