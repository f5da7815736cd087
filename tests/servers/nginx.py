"""A real nginx that serves a directory."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.servers.certificates import Authority
from tests.servers.ports import free_port

PATIENCE = 60.0
"""Seconds that nginx may take to answer, or to end."""

_CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}
pid {state}/pid;
error_log {state}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {state}/access.log;
    types {{ }}
    default_type application/octet-stream;
    sendfile on;
    client_body_temp_path {state}/body;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    server {{
        listen 127.0.0.1:{port}{ssl};
        root "{root}";
{config}
    }}
}}
"""


class Nginx:
    """nginx on a free port, run by the tests' user; a context manager.

    ``config`` is added to its server block. With ``tls`` its certificate is for localhost and 127.0.0.1, and clients
    must trust ``authority``. ``url`` has no "/" at its end.
    """

    def __init__(self, directory: Path, *, config: str = "", tls: bool = False) -> None:
        self.directory = directory
        self.authority: Authority | None = None
        self.port = free_port()
        self._config = config
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._state: Path | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, always on the same port; return once it answers. Raises RuntimeError with its output."""
        state = self._state = Path(tempfile.mkdtemp(prefix="datamover-nginx-"))
        config = self._config
        if self._tls:
            self.authority = Authority(state)
            certificate, key = self.authority.issue()
            config += f"\nssl_certificate {certificate};\nssl_certificate_key {key};"
        # nginx inherits a listening socket, as in its own upgrades: connections from now on wait for it.
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            text = _CONFIGURATION.format(
                # Its workers would not be root, and could not enter a directory of root's tests.
                user="user root;" if os.geteuid() == 0 else "",
                state=state,
                port=self.port,
                ssl=" ssl" if self._tls else "",
                root=self.directory,
                config=config,
            )
            (state / "nginx.conf").write_text(text)
            self._process = subprocess.Popen(
                [
                    shutil.which("nginx") or "/usr/sbin/nginx",
                    *("-p", str(state), "-c", str(state / "nginx.conf"), "-e", str(state / "error.log")),
                ],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
                pass_fds=(listener.fileno(),),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            self._ask()
        except OSError as error:
            said = (state / "error.log").read_text() if (state / "error.log").exists() else str(error)
            self.stop()
            raise RuntimeError(f"nginx did not start: {said}") from None

    def stop(self) -> None:
        """Stop it; its port is free when this returns."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._state is not None:
            shutil.rmtree(self._state, ignore_errors=True)
            self._state = None

    def requests(self) -> list[str]:
        """Return the lines of the access log, oldest first."""
        assert self._state is not None
        return (self._state / "access.log").read_text().splitlines()

    def __enter__(self) -> "Nginx":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self) -> None:
        if self.authority is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        else:
            context = ssl.create_default_context(cafile=str(self.authority.file))
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context)
        try:
            connection.request("HEAD", "/")
            connection.getresponse().read()
        except http.client.HTTPException as error:
            raise OSError(repr(error)) from error
        finally:
            connection.close()
