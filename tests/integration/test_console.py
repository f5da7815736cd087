"""The console, as a person uses it over telnet and with Debian's ssh."""

import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.servers import postgres
from tests.servers.ports import free_port
from tests.servers.service import PATIENCE, Service

PASSWORD = "open sesame"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash
"""So that a login takes no longer than it may where others want the processors too."""

WILL, WONT, DO, DONT = b"\xfb", b"\xfc", b"\xfd", b"\xfe"
_NEGOTIATION = re.compile(rb"\xff([\xfb-\xfe])(.)", re.DOTALL)
_ANSWERS = {WILL: DO, WONT: DONT, DO: WONT, DONT: WONT}


class Telnet:
    """A terminal that lets the server echo, and offers nothing of its own (RFC 854, RFC 857)."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=0.1)
        self._seen = self._stream = b""
        self._negotiated = 0

    def until(self, expected: str) -> str:
        """Read until ``expected`` has come; return everything up to it, without what moves the cursor."""
        deadline = time.monotonic() + PATIENCE
        while expected not in (shown := _plain(self._seen)):
            assert time.monotonic() < deadline, shown
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            assert data, f"the connection was closed after {shown}"
            self._seen += data
            self._negotiate(data)
        self._seen = b""
        return shown

    def _negotiate(self, data: bytes) -> None:
        self._stream += data
        for found in _NEGOTIATION.finditer(self._stream, self._negotiated):
            self._socket.sendall(b"\xff" + _ANSWERS[found[1]] + found[2])
            self._negotiated = found.end()

    def type(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\r\n")

    def ask(self, line: str, expected: str) -> str:
        self.type(line)
        return self.until(expected)

    def login(self, username: str, password: str) -> None:
        self.until("Username: ")
        self.type(username)
        self.until("Password: ")
        self.type(password)
        self.until(">>> ")

    def take(self, data: bytes) -> int:
        """Send as much of ``data`` as is taken at once, and drop what has come; return how many bytes were sent."""
        readable, writable, _ = select.select([self._socket], [self._socket], [], 0.1)
        if readable:
            assert self._socket.recv(2**20), "the connection was closed"
        return self._socket.send(data[:4096]) if writable else 0

    def close(self) -> None:
        self._socket.close()


def _plain(data: bytes) -> str:
    text = _NEGOTIATION.sub(b"", data)
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[c=>])", "", text.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Ssh:
    """Debian's own client, with a key of the test's."""

    directory: Path
    port: int

    def run(self, *arguments: str, key: str = "key", user: str = "operator") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, key=key, user=user),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def command(self, *arguments: str, key: str = "key", user: str = "operator") -> list[str]:
        options = [each for each in arguments if each.startswith("-")]
        line = [each for each in arguments if not each.startswith("-")]
        return [
            "ssh",
            "-F/dev/null",
            f"-p{self.port}",
            f"-i{self.directory}/{key}",
            "-oIdentitiesOnly=yes",
            "-oIdentityAgent=none",
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=accept-new",
            f"-oUserKnownHostsFile={self.directory}/known",
            *options,
            f"{user}@127.0.0.1",
            *line,
        ]


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Ssh:
    directory = tmp_path_factory.mktemp("ssh")
    kinds = {"key": "ed25519", "stranger": "ed25519", "rsa": "rsa", "ecdsa": "ecdsa"}
    for name, kind in kinds.items():
        subprocess.run(["ssh-keygen", "-q", f"-t{kind}", "-N", "", "-f", directory / name], check=True)
    keys = [(directory / f"{name}.pub").read_text() for name in ("key", "rsa", "ecdsa")]
    (directory / "authorized").write_text("# the operators\n\nnonsense\n" + "".join(keys))
    return Ssh(directory, free_port())


@pytest.fixture
def no_traceback(service: Service) -> Iterator[None]:
    """Fail the test if the service meanwhile logs an error that nobody handled."""
    before = len(service.log.read_text())
    yield
    said = service.log.read_text()[before:]
    assert "Traceback" not in said, said
    assert "Unhandled" not in said, said


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    yield path
    shutil.rmtree(path)


def console_tables(port: int, ssh: Ssh) -> str:
    """Return the configuration of a fresh database, and of a console with telnet on ``port`` and SSH on ``ssh``'s."""
    return f"""
[database]
url = "{postgres.shared().fresh()}"
[console]
telnet = "tcp:{port}:interface=127.0.0.1"
password_hash = "{CHEAP(PASSWORD)}"
ssh = "tcp:{ssh.port}:interface=127.0.0.1"
authorized_keys_file = "{ssh.directory}/authorized"
"""


@pytest.fixture(scope="module")
def service(directory: Path, port: int, ssh: Ssh) -> Iterator[Service]:
    archive = f'[destinations.archive]\nurl = "file://{directory}/archive"\ndescription = "For keeps"\n'
    service = Service(directory, console_tables(port, ssh) + archive)
    service.start()
    yield service
    service.stop()


def test_looking_in(service: Service, port: int, directory: Path) -> None:
    """Every name answers with what is true of the live service, in a table or in words."""
    (directory / "archive").mkdir()
    (directory / "archive/a.csv").write_bytes(b"a" * 1500)
    here = {"destination": "archive", "path": "a.csv"}
    good = service.proxy.jobs.submit({"source": here, "destination": "archive", "path": "b.csv", "label": "copy"})["id"]
    gone = {"destination": "archive", "path": "missing.csv"}
    bad = service.proxy.jobs.submit({"source": gone, "destination": "archive", "path": "c.csv"})["id"]
    service.ended(good)
    service.ended(bad)

    terminal = Telnet(port)
    try:
        terminal.until("Username: ")
        terminal.ask("operator", "Password: ")
        terminal.ask(PASSWORD, ">>> ")
        assert "explain(12)" in terminal.ask("help()", "This list")
        listed = terminal.ask("jobs()", "copy")
        assert re.search(rf"{bad} +FAILED +local +0/1", listed)
        assert "SOURCE_NOT_FOUND" in listed
        told = terminal.ask(f"job({good})", "sha256:")
        assert "COMPLETED" in told
        assert "archive:b.csv" in told
        assert "1.5 kB" in told
        assert "For keeps" in terminal.ask("destinations()", "For keeps")
        assert "no transfer moves" in terminal.ask("transfers()", "no transfer moves at this moment")
        assert "does not exist" in " ".join(terminal.ask(f"explain({bad})", "back in the queue").split())
        assert "there is no job 99" in terminal.ask("job(99)", "there is no job 99")
        assert "4" in terminal.ask("2 + 2", "4")
    finally:
        terminal.close()
    assert "Unhandled" not in service.log.read_text()


def test_wrong_password(service: Service, port: int) -> None:
    """Nobody gets in with a wrong name or password."""
    terminal = Telnet(port)
    try:
        terminal.until("Username: ")
        terminal.ask("operator", "Password: ")
        assert ">>>" not in terminal.ask("guess", "Authentication failed")
    finally:
        terminal.close()


def recorded(service: Service, *expected: tuple[str, str, str, str]) -> None:
    """Wait until it is recorded who did what, of what, and what came of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        told = service.proxy.service.audit({"limit": 1000})["entries"]
        found = {(each["who"], each["action"], each["subject"], each["outcome"]) for each in told}
        if found.issuperset(expected):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_verbs_over_ssh(service: Service, ssh: Ssh) -> None:
    """A line is run as at the prompt, through what the interface changes too, and recorded with who typed it."""
    store = {"destination": "archive", "path": "nothing.csv"}
    held = ssh.run("hold('archive', 'for the test')")
    assert (held.returncode, held.stdout) == (0, "archive is held; release('archive') ends that\n"), held.stderr
    job = service.proxy.jobs.submit({"source": store, "destination": "archive", "path": "x.csv"})["id"]
    assert ssh.run(f"pause({job})").stdout == f"job {job} is PENDING, paused\n"
    assert ssh.run(f"resume({job})").stdout == f"job {job} is PENDING\n"
    assert "nothing.csv" in ssh.run(f"files({job})").stdout
    assert ssh.run(f"cancel({job})").stdout == f"job {job} is CANCELLED\n"
    again = ssh.run(f"retry({job})")
    assert (again.returncode, again.stdout) == (1, "")
    assert "only a job that is FAILED or PARTIAL can be retried" in again.stderr
    assert "is not registered" in ssh.run("hold('moon', 'x')").stderr
    assert ssh.run("release('archive')").stdout == "archive is open\n"
    assert "takes nothing new" in ssh.run("drain()").stdout
    assert "takes work" in ssh.run("undrain()").stdout
    assert ssh.run("reload()").stdout == "changed: nothing\n"
    assert "Traceback" in ssh.run("1/0").stderr
    told = ssh.run("audit(100)").stdout
    assert re.search(r"operator +ssh 127\.0\.0\.1 +service\.drain +ok", told)
    recorded(
        service,
        ("operator", "console", f"cancel({job})", "ok"),
        ("operator", "jobs.cancel", str(job), "ok"),
        ("operator", "jobs.retry", str(job), "INVALID_STATE"),
        ("operator", "destinations.hold", "archive for the test", "ok"),
        ("operator", "login", "", "ok"),
    )
    log = service.log.read_text()
    assert f"operator at ssh 127.0.0.1: console cancel({job}): ok" in log
    assert "Unhandled" not in log


def test_a_prompt_over_ssh(service: Service, ssh: Ssh) -> None:
    """With a terminal the same prompt as over telnet comes up, and Ctrl-D leaves it."""
    command = ["ssh", "-F/dev/null", "-tt", f"-p{ssh.port}", f"-i{ssh.directory}/key", "-oIdentitiesOnly=yes"]
    command += ["-oStrictHostKeyChecking=accept-new", f"-oUserKnownHostsFile={ssh.directory}/known"]
    with subprocess.Popen(
        [*command, "operator@127.0.0.1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"destinations()\r")
        client.stdin.flush()
        seen = b""
        while b"For keeps" not in seen:
            data = os.read(client.stdout.fileno(), 65536)
            assert data, seen
            seen += data
        client.stdin.write(b"\x04")
        client.stdin.flush()
        assert client.wait(PATIENCE) == 0
    recorded(service, ("operator", "console", "destinations()", "ok"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Permission denied (publickey,password)"),
        (("-oCiphers=chacha20-poly1305@openssh.com",), "no matching cipher found"),
        (("-oCiphers=aes128-cbc",), "no matching cipher found"),
        (("-oCiphers=aes128-ctr", "-oMACs=hmac-sha1"), "no matching MAC found"),
        (("-oMACs=hmac-sha2-256-etm@openssh.com", "-oCiphers=aes128-ctr"), "no matching MAC found"),
        (("-oKexAlgorithms=diffie-hellman-group14-sha1",), "no matching key exchange method found"),
    ],
)
def test_who_does_not_get_in(service: Service, ssh: Ssh, options: tuple[str, ...], words: str) -> None:
    """Another key, and what is no longer safe, are refused."""
    refused = ssh.run(*options, "jobs()", key="key" if options else "stranger")
    assert refused.returncode == 255
    assert words in refused.stderr
    if not options:
        recorded(service, ("operator", "login", "", "AUTHENTICATION_FAILED"))


@pytest.mark.parametrize("key", ["rsa", "ecdsa"])
def test_other_kinds_of_key(service: Service, ssh: Ssh, key: str) -> None:
    """RSA keys sign with SHA-2, and not with SHA-1."""
    let_in = ssh.run("jobs()", key=key)
    assert let_in.returncode == 0, let_in.stderr
    if key == "rsa":
        assert ssh.run("-oPubkeyAcceptedAlgorithms=ssh-rsa", "jobs()", key=key).returncode == 255


def test_another_name_and_other_uses(service: Service, ssh: Ssh) -> None:
    """The key is the operator's alone; there are no files to fetch and no ports to forward."""
    assert "Permission denied" in ssh.run("jobs()", user="root").stderr
    assert ssh.run("-s", "sftp").returncode != 0
    forwarded = ssh.run("-oExitOnForwardFailure=yes", f"-R{free_port()}:127.0.0.1:1", "jobs()")
    assert "remote port forwarding failed" in forwarded.stderr
    recorded(service, ("?", "login", "", "AUTHENTICATION_FAILED"))


@pytest.mark.parametrize(("password", "status"), [(PASSWORD, 0), ("guess", 255)])
def test_a_password_over_ssh(service: Service, ssh: Ssh, password: str, status: int) -> None:
    """Where there is a password_hash it lets in too; it is in no log."""
    asked = ssh.directory / "asked"
    asked.write_text(f"#!/bin/sh\necho '{password}'\n")
    asked.chmod(0o700)
    options = ["-F/dev/null", f"-p{ssh.port}", "-oPreferredAuthentications=password", "-oNumberOfPasswordPrompts=1"]
    options += ["-oStrictHostKeyChecking=accept-new", f"-oUserKnownHostsFile={ssh.directory}/known"]
    environment = {**os.environ, "SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"}
    command = ["ssh", *options, "operator@127.0.0.1", "help()"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, "explain(12)" in done.stdout) == (status, status == 0), done.stderr
    assert password not in service.log.read_text()


def test_the_host_key_is_kept(service: Service, ssh: Ssh, directory: Path) -> None:
    """It is made at the first start, for its owner alone, and is the one that clients remember."""
    key = directory / "data/console_host_key"
    assert key.stat().st_mode & 0o777 == 0o600
    public = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, text=True, check=True).stdout
    assert ssh.run("jobs()").returncode == 0
    assert public.split()[1] in (ssh.directory / "known").read_text()


def test_keys_that_others_may_change(service: Service, ssh: Ssh) -> None:
    """An authorized_keys file that others may write to lets nobody in, and the log says what to run."""
    file = ssh.directory / "authorized"
    file.chmod(0o666)
    try:
        assert "Permission denied" in ssh.run("jobs()").stderr
    finally:
        file.chmod(0o644)
    assert f"others may write to it: run chmod go-w {file}" in service.log.read_text()
    assert ssh.run("jobs()").returncode == 0
