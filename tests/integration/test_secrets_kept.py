"""Secrets of every kind, through jobs of every kind, and then looked for in all that a whole service has told.

What goes wrong is where they would slip out: so most of these jobs do.
"""

import base64
import json
import secrets
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError, ServerProxy, Transport

import psycopg2
import pytest

from datamover.security.passwords import hash_password
from tests.servers import postgres
from tests.servers.ports import free_port
from tests.servers.service import Service
from tests.servers.sshd import PASSPHRASE, Sshd

KINDS = (
    "client",
    "boss",
    "operator",
    "wrong",
    "token",
    "basic",
    "notify",
    "signature",
    "missing",
    "redirect",
    "hook",
    "login",
    "typed",
    "config",
    "password",
    "unpermitted",
)


class Told(Transport):
    """Keeps every answer as it came."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__()
        self._kept = kept

    def parse_response(self, response: Any) -> Any:
        data = response.read()
        self._kept.append(data.decode("utf-8", "replace"))
        parser, target = self.getparser()
        parser.feed(data)
        parser.close()
        return target.close()


class Handler(BaseHTTPRequestHandler):
    """Wants a token below /token and a login below /basic; redirects, fails, and is gone where it is told to."""

    def do_GET(self) -> None:
        secret: dict[str, str] = self.server.secret  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        login = base64.b64encode(f"me:{secret['basic']}".encode()).decode()
        wanted = {"/token": f"Bearer {secret['token']}", "/basic": f"Basic {login}"}.get(path)
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", f"/file.csv?sig={secret['redirect']}")
            self.end_headers()
        elif path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://10.1.2.3/?sig={secret['redirect']}")
            self.end_headers()
        elif path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        elif path == "/missing" or (wanted and self.headers["Authorization"] != wanted):
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"a,b\n")

    do_HEAD = do_GET  # noqa: N815 - its base's

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.noticed.append(self.path)  # type: ignore[attr-defined]
        self.send_error(500 if len(self.server.noticed) < 3 else 204)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def secret() -> dict[str, str]:
    return {kind: f"{kind}{secrets.token_hex(8)}" for kind in KINDS}


@pytest.fixture
def web(secret: dict[str, str]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.secret = secret  # type: ignore[attr-defined]
    server.noticed = []  # type: ignore[attr-defined]
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def kept(path: Path, text: str) -> Path:
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def everything_stored(url: str) -> str:
    """Return every row of every table, as text."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        rows = []
        for (name,) in cursor.fetchall():
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{name}" t')
            rows += [f"{name}: {row}" for (row,) in cursor.fetchall()]
    connection.close()
    return "\n".join(rows)


def test_nothing_is_told(open_directory: Path, web: str, secret: dict[str, str]) -> None:
    """No log, row, event, error, answer, metric or table of the console holds a secret, or a hash of a password.

    The log is in JSON: each line holds the text's, and the fields that it was made of.
    """
    (open_directory / "ssh").mkdir()
    sshd = Sshd(open_directory / "ssh")
    sshd.start()
    url, console, key = postgres.shared().fresh(), free_port(), open_directory / "operator"
    subprocess.run(["ssh-keygen", "-q", "-ted25519", "-N", "", "-f", key], check=True)
    hashes = {kind: hash_password(secret[kind]) for kind in ("client", "boss", "operator")}
    service = Service(
        open_directory,
        f"""[database]
url = "{url}"
[log]
format = "json"
[sources]
allow = ["http://127.0.0.1:*/"]
[[sources.credentials]]
url = "{web}/token"
token_file = "{kept(open_directory / "token", secret["token"])}"
[[sources.credentials]]
url = "{web}/basic"
username = "me"
password_file = "{kept(open_directory / "basic", secret["basic"])}"
[destinations.archive]
url = "file://{open_directory}/archive"
[destinations.keyed]
url = "{sshd.url}"
private_key_file = "{sshd.client_key("rsa", passphrase=True)}"
passphrase_file = "{sshd.passphrase_file}"
known_hosts_file = "{sshd.known_hosts}"
[destinations.refused]
url = "{sshd.url}"
password_file = "{kept(open_directory / "password", secret["password"])}"
known_hosts_file = "{sshd.known_hosts}"
[clients.portal]
password_hash = "{hashes["client"]}"
notify_secret_file = "{kept(open_directory / "notify", secret["notify"])}"
[clients.boss]
password_hash = "{hashes["boss"]}"
admin = true
[console]
ssh = "tcp:{console}:interface=127.0.0.1"
authorized_keys_file = "{key}.pub"
password_hash = "{hashes["operator"]}"
[transfers]
max_attempts = 2
retry_base = "50ms"
retry_cap = "100ms"
""",
    )
    answers: list[str] = []
    service.start_behind_a_login()
    here = service.url.partition("//")[2]

    def client(name: str, password: str) -> ServerProxy:
        return ServerProxy(f"http://{name}:{password}@{here}", transport=Told(answers))

    def ask(call: Any, *parameters: Any) -> Any:
        try:
            return call(*parameters)
        except (Fault, ProtocolError) as error:
            answers.append(str(getattr(error, "faultString", "")))
            return None

    def typed(line: str) -> None:
        options = ["-F/dev/null", f"-p{console}", f"-i{key}", "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=no"]
        command = ["ssh", *options, f"-oUserKnownHostsFile={open_directory}/known", "operator@127.0.0.1", line]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
        )
        answers.append(done.stdout + done.stderr)

    try:
        with client("portal", secret["client"]) as portal, client("boss", secret["boss"]) as boss:
            for name, password in (("portal", secret["wrong"]), (secret["login"], "x")):
                with client(name, password) as nobody:
                    ask(nobody.jobs.list)
            sources = [
                f"{web}/file.csv?sig={secret['signature']}",
                f"{web}/missing?sig={secret['missing']}",
                f"{web}/broken?sig={secret['signature']}",
                f"http://127.0.0.1:{free_port()}/x?sig={secret['signature']}",
                f"{web}/moved",
                f"{web}/away",
                f"{web}/token",
                f"{web}/basic",
            ]
            hook = f"{web}/hook?sig={secret['hook']}"
            requests: list[dict[str, Any]] = [
                {"source": source, "destination": place, "path": f"{number}", "notify": hook, "overwrite": "always"}
                for number, source in enumerate(sources)
                for place in ("archive", "keyed")
            ]
            requests.append({"source": sources[0], "destination": "refused", "path": "x", "notify": hook})
            for path, first in (("all.zip", sources[0]), ("not.zip", sources[1])):
                files = [{"source": first}, {"source": sources[-1]}]
                requests.append({"archive": "zip", "destination": "archive", "path": path, "files": files})
            jobs = [ask(portal.jobs.submit, request)["id"] for request in requests]
            for request in requests[:4]:
                ask(portal.jobs.check, request)
            for bad in (
                {"source": f"http://me:{secret['login']}@127.0.0.1/", "destination": "archive", "path": "x"},
                {"source": f"https://example.org/?sig={secret['signature']}", "destination": "archive", "path": "x"},
                {"source": f"gopher://h/?sig={secret['signature']}", "destination": "archive", "path": "x"},
                {"source": sources[0], "destination": "archive", "path": "x", "notify": f"ftp://h/?s={secret['hook']}"},
            ):
                assert ask(portal.jobs.submit, bad) is None
            ask(portal.move, sources[0], f"scp://me:{secret['login']}@nowhere/x")
            ask(portal.destinations.hold, "archive", f"https://h/?sig={secret['unpermitted']}")
            ended = [ask(portal.jobs.wait, job, 60)["status"] for job in jobs]
            assert {"COMPLETED", "FAILED"} <= set(ended), ended
            assert ended[sources.index(f"{web}/token") * 2] == "COMPLETED"
            assert ended[-2:] == ["COMPLETED", "FAILED"]
            for job in jobs:
                ask(portal.jobs.files, job)
            ask(portal.jobs.retry, jobs[2])
            ask(portal.jobs.renotify, jobs[0])
            ask(portal.jobs.wait, jobs[2], 60)
            ask(portal.jobs.events, {"limit": 1000})
            ask(portal.jobs.list)
            for name in ("archive", "keyed", "refused"):
                ask(boss.destinations.test, name)
            ask(boss.destinations.list)
            ask(boss.service.status)
            for line in (
                "jobs()",
                f"job({jobs[0]})",
                f"job({jobs[2]})",
                f"explain({jobs[2]})",
                f"files({jobs[2]})",
                "destinations()",
                f"len('https://h/?sig={secret['typed']}')",
                f"password = '{secret['typed']}'",
                f"len({{'token': '{secret['typed']}'}})",
            ):
                typed(line)
            whole = service.config.read_text()
            service.config.write_text(f'{whole}\n[destinations.bad]\nurl = "sftp://me:{secret["config"]}@h/x"\n')
            assert ask(boss.service.reload) is None
            service.config.write_text(whole)
            ask(boss.service.reload)
            asking = urllib.request.Request(f"http://{here.partition('/')[0]}/metrics")
            login = base64.b64encode(f"boss:{secret['boss']}".encode()).decode()
            asking.add_header("Authorization", f"Basic {login}")
            with urllib.request.urlopen(asking) as page:
                answers.append(page.read().decode())
            ask(boss.service.audit, {"limit": 1000})
    finally:
        service.stop()
        sshd.stop()

    stored, logged = everything_stored(url), service.log.read_text()
    assert json.dumps("portal") in stored
    assert "portal at 127.0.0.1: jobs.retry" in logged
    # What was done is in it, and where a secret was there are asterisks.
    assert "console len('https://h/?sig=***'): ok" in logged
    assert "missing?sig=***" in stored
    assert len(answers) > 60
    forms = {**secret, "passphrase": PASSPHRASE, **{f"hash of {kind}": text for kind, text in hashes.items()}}
    forms |= {f"{kind} in hex": text.encode().hex() for kind, text in secret.items()}
    forms |= {
        f"{kind} in base64": base64.b64encode(f"x:{text}".encode()).decode()[4:-4] for kind, text in secret.items()
    }
    for place, text in (("the log", logged), ("the database", stored), *(("an answer", one) for one in answers)):
        for kind, form in forms.items():
            found = text.find(form)
            assert found < 0, f"{kind} is in {place}: {text[max(0, found - 200) : found + 100]}"
