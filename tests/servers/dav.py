"""Real WebDAV servers on 127.0.0.1, each a collection on a disk: Apache, nginx, lighttpd and wsgidav."""

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.certificates import Authority
from tests.servers.ports import free_port
from tests.servers.processes import Process

USERNAME, PASSWORD = "Aladdin", "open sesame, pßt"
REALM = "cave"
SERVANT = "www-data"
"""The servers' account if the tests run as root, to whom no permissions apply."""

_APACHE = """\
ServerRoot {state}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {state}/pid
DefaultRuntimeDir {state}
ErrorLog {state}/log
{account}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authn_file_module {modules}/mod_authn_file.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_{auth}_module {modules}/mod_auth_{auth}.so
LoadModule dav_module {modules}/mod_dav.so
LoadModule dav_fs_module {modules}/mod_dav_fs.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule autoindex_module {modules}/mod_autoindex.so
{tls}
StartServers 1
ThreadsPerChild 32
DavLockDB {state}/locks
DocumentRoot "{root}"
<Directory "{root}">
  Dav On
  Options Indexes
  AuthType {auth}
  AuthName {realm}
  Auth{kind}
  Require valid-user
  {config}
</Directory>
"""
_NGINX = """\
load_module {module};
{account}
worker_processes 1;
daemon off;
pid {state}/pid;
error_log {state}/log;
events {{ }}
http {{
  access_log {state}/access;
  client_max_body_size 0;
  client_body_temp_path {state}/b;
  proxy_temp_path {state}/p;
  fastcgi_temp_path {state}/f;
  uwsgi_temp_path {state}/u;
  scgi_temp_path {state}/s;
  server {{
    listen 127.0.0.1:{port};
    root "{root}";
    auth_basic {realm};
    auth_basic_user_file {state}/users;
    location / {{
      dav_methods PUT DELETE MKCOL COPY MOVE;
      dav_ext_methods PROPFIND OPTIONS;
      dav_access user:rw group:r all:r;
      autoindex on;
      {config}
    }}
  }}
}}
"""
_LIGHTTPD = """\
server.modules = ("mod_auth", "mod_authn_file", "mod_webdav")
server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
{account}
server.errorlog = "{state}/log"
server.upload-dirs = ("{state}")
server.stat-cache-engine = "disable"
mimetype.assign = ("" => "text/plain")
auth.backend = "htpasswd"
auth.backend.htpasswd.userfile = "{state}/users"
auth.require = ("/" => ("method" => "basic", "realm" => "{realm}", "require" => "valid-user"))
webdav.activate = "enable"
webdav.is-readonly = "disable"
webdav.sqlite-db-name = "{state}/db"
{config}
"""


class DavServer(ABC):
    """A server whose files lie in ``root``; ``config`` is added to its configuration of that directory."""

    digests = False
    """Logins are by Digest."""

    def __init__(self, directory: Path, *, config: str = "") -> None:
        directory.chmod(0o755)
        self.state = directory / "state"
        self.root = directory / "root"
        for each in (self.state, self.root):
            each.mkdir()
            give(each)
        self.config = config
        self.port = free_port()
        self.password_file = directory / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self.password_file.chmod(0o600)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The destination's URL of its root."""
        return f"dav://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """The keys of a destination's table."""
        return {"username": USERNAME, "password_file": str(self.password_file)}

    def start(self) -> None:
        self._process = self._start()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    @abstractmethod
    def _start(self) -> Process: ...

    @property
    def _log(self) -> Path:
        return self.state / "output"


class Apache(DavServer):
    """Apache's mod_dav, with Basic or Digest, and TLS where there is an ``authority``."""

    def __init__(
        self, directory: Path, *, config: str = "", digests: bool = False, authority: Authority | None = None
    ) -> None:
        super().__init__(directory, config=config)
        self.digests = digests
        self._authority = authority

    @property
    def url(self) -> str:
        return f"davs://localhost:{self.port}" if self._authority is not None else super().url

    def _start(self) -> Process:
        users, tls = self.state / "users", ""
        if self.digests:
            secret = subprocess.run(
                ["openssl", "md5", "-r"],
                input=f"{USERNAME}:{REALM}:{PASSWORD}".encode(),
                capture_output=True,
                check=True,
            )
            users.write_text(f"{USERNAME}:{REALM}:{secret.stdout.split()[0].decode()}\n")
        else:
            users.write_text(f"{USERNAME}:{_hashed()}\n")
        if self._authority is not None:
            certificate, key = self._authority.issue()
            tls = "LoadModule ssl_module {}/mod_ssl.so\nSSLEngine on\nSSLCertificateFile {}\nSSLCertificateKeyFile {}"
            tls = tls.format("/usr/lib/apache2/modules", certificate, key)
        kind = f"UserFile {users}"
        configuration = self.state / "apache.conf"
        configuration.write_text(
            _APACHE.format(
                state=self.state,
                root=self.root,
                port=self.port,
                account=f"User {SERVANT}\nGroup {SERVANT}" if os.geteuid() == 0 else "",
                modules="/usr/lib/apache2/modules",
                auth="digest" if self.digests else "basic",
                kind=kind,
                realm=REALM,
                tls=tls,
                config=self.config,
            )
        )
        return Process(["/usr/sbin/apache2", "-X", "-f", str(configuration)], self.port, self._log)


class NginxDav(DavServer):
    """nginx's WebDAV with nginx-dav-ext-module."""

    def _start(self) -> Process:
        users = self.state / "users"
        users.write_text(f"{USERNAME}:{_hashed()}\n")
        give(users)
        configuration = self.state / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                module="/usr/lib/nginx/modules/ngx_http_dav_ext_module.so",
                state=self.state,
                root=self.root,
                port=self.port,
                account=f"user {SERVANT};" if os.geteuid() == 0 else "",
                realm=REALM,
                config=self.config,
            )
        )
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        return Process([program, "-c", str(configuration), "-e", str(self.state / "log")], self.port, self._log)


class Lighttpd(DavServer):
    """lighttpd's mod_webdav, which moves a file into a directory that has the name that it is to get."""

    def _start(self) -> Process:
        users, configuration = self.state / "users", self.state / "lighttpd.conf"
        users.write_text(f"{USERNAME}:{_hashed()}\n")
        give(users)
        configuration.write_text(
            _LIGHTTPD.format(
                state=self.state,
                root=self.root,
                port=self.port,
                account=f'server.username = "{SERVANT}"' if os.geteuid() == 0 else "",
                realm=REALM,
                config=self.config,
            )
        )
        return Process(["/usr/sbin/lighttpd", "-D", "-f", str(configuration)], self.port, self._log)


class WsgiDav(DavServer):
    """wsgidav on cheroot, which keeps the times of files; with Basic or Digest."""

    def __init__(self, directory: Path, *, config: str = "", digests: bool = False) -> None:
        super().__init__(directory, config=config)
        self.digests = digests

    def _start(self) -> Process:
        configuration = self.state / "wsgidav.json"
        configuration.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": self.port,
                    "server": "cheroot",
                    # Linux drops connections beyond the queue, which then wait for seconds: five are too few for forty.
                    "server_args": {"request_queue_size": 128},
                    "provider_mapping": {"/": str(self.root)},
                    "http_authenticator": {
                        "accept_basic": not self.digests,
                        "accept_digest": self.digests,
                        "default_to_digest": self.digests,
                    },
                    "simple_dc": {"user_mapping": {"*": {USERNAME: {"password": PASSWORD}}}},
                    "honor_mtime_header": True,
                    "property_manager": True,
                    "lock_storage": True,
                    "verbose": 1,
                }
            )
        )
        give(configuration)
        program = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "wsgidav"), "--config", str(configuration)]
        if os.geteuid() == 0:
            account = pwd.getpwnam(SERVANT)
            program = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *program]
        return Process(program, self.port, self._log)


@contextmanager
def running(make: Callable[[Path], DavServer]) -> Iterator[DavServer]:
    """Give a server in a directory of its own, which its account may enter, and stop it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="datamover-dav-"))
    server = make(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


def give(path: Path) -> None:
    """Give a file or directory to the servers' account."""
    if os.geteuid() == 0:
        os.chown(path, pwd.getpwnam(SERVANT).pw_uid, grp.getgrnam(SERVANT).gr_gid)


def _hashed() -> str:
    command = ["openssl", "passwd", "-apr1", "-stdin"]
    told = subprocess.run(command, input=PASSWORD.encode(), capture_output=True, check=True)
    return told.stdout.decode().strip()
