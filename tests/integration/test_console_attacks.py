"""What strangers do to the console's listeners, and that operators get in all the same."""

import contextlib
import os
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from datamover.bounds.console import MOST_SESSIONS, MOST_WITHOUT_LOGIN, TYPING_TIMES
from tests.integration.test_console import PASSWORD, Ssh, Telnet, console_tables, no_traceback, ssh
from tests.servers.crowds import KEXINIT, name, packet
from tests.servers.ports import free_port
from tests.servers.service import PATIENCE, Service
from tests.waiting import wait_until

__all__ = ["no_traceback", "ssh"]

pytestmark = pytest.mark.usefixtures("no_traceback")

LOGIN = 1.0
"""Seconds that a login may take."""
CONNECTIONS = 2 * MOST_WITHOUT_LOGIN + 4
SHOWN = 60_000_000
"""Bytes that one line shows."""
Terminal = TypeVar("Terminal", bound=Telnet)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def service(port: int, ssh: Ssh) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    limits = f"[limits]\nlogin_seconds = {LOGIN}\nconsole_connections = {CONNECTIONS}\n"
    service = Service(directory, console_tables(port, ssh) + limits)
    service.start()
    yield service
    service.stop()
    shutil.rmtree(directory)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def ends(one: socket.socket, within: float = PATIENCE) -> bytes:
    """Read until the other side closes; return what it said."""
    one.settimeout(within)
    said = b""
    with one, contextlib.suppress(ConnectionResetError):
        while data := one.recv(65536):
            said += data
    return said


def logged_in(port: int) -> Telnet:
    return log_in(Telnet(port))


def log_in(terminal: Terminal) -> Terminal:
    terminal.until("Username: ")
    terminal.ask("operator", "Password: ")
    terminal.ask(PASSWORD, ">>> ")
    return terminal


def descriptors(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.pid}/fd"))


def test_a_thousand_that_do_nothing(service: Service, port: int, ssh: Ssh) -> None:
    """However many connections are held open, few are kept; operators get in by telnet and by SSH."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held: list[socket.socket] = []
    before = descriptors(service)
    try:
        for _ in range(530):
            held += [connected(port), connected(ssh.port)]
        few = before + CONNECTIONS + 8
        deadline = time.monotonic() + PATIENCE
        while descriptors(service) > few:  # The last ones are being closed.
            assert time.monotonic() < deadline, descriptors(service)
            time.sleep(0.05)
        terminal = logged_in(port)
        terminal.close()
        assert ssh.run("jobs()").returncode == 0
    finally:
        for one in held:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_deadline_for_the_login(service: Service, port: int, ssh: Ssh) -> None:
    """A connection without a login is told why and closed, however far it had come; a session stays, however idle."""
    terminal = logged_in(port)
    begun = time.monotonic()
    silent, named, shell, handshake = connected(port), connected(port), connected(ssh.port), connected(ssh.port)
    named.sendall(b"operator\r\n")
    handshake.sendall(b"SSH-2.0-slow\r\n")
    for one in (silent, named, shell, handshake):
        said = ends(one)
        assert b"nobody has logged in within 6 s" in said
    assert time.monotonic() - begun > TYPING_TIMES * LOGIN - 1
    time.sleep(1)
    assert "4" in terminal.ask("2 + 2", "4")
    terminal.close()


def test_no_room(service: Service, port: int) -> None:
    """Sessions are not closed for others, who are told that there is no room."""
    terminals = [logged_in(port) for _ in range(CONNECTIONS)]
    try:
        assert b"no room for more connections" in ends(connected(port))
        assert "4" in terminals[0].ask("2 + 2", "4")
    finally:
        for terminal in terminals:
            terminal.close()
    deadline = time.monotonic() + PATIENCE
    said = b""
    while b"Username" not in said:
        assert time.monotonic() < deadline, said
        with connected(port) as one:
            said = one.recv(100)


OUT_OF_ORDER = {
    "new keys first": packet(b"\x15"),
    "new keys after the offer": packet(KEXINIT) + packet(b"\x15"),
    "two offers": packet(KEXINIT) + packet(KEXINIT),
    "a key that is none": packet(KEXINIT) + packet(b"\x1e" + name(b"\xff" * 3)),
    "half a key exchange": packet(KEXINIT) + packet(b"\x1e"),
    "an empty offer": packet(b"\x14"),
    "a service before keys": packet(b"\x05" + name(b"ssh-userauth")),
    "a login before keys": packet(b"\x32" + name(b"operator") + name(b"ssh-connection") + name(b"none")),
    "a channel before keys": packet(b"\x5a" + name(b"session") + bytes(12)),
    "a huge packet": struct.pack(">IB", 2**31, 4) + bytes(64),
    "a packet of no length": bytes(64),
    "a disconnect of nothing": packet(b"\x01"),
    "a message that is none": packet(b"\xff"),
    "an answer to nothing": packet(b"\x1f" + bytes(64)),
}


@pytest.mark.parametrize("sent", list(OUT_OF_ORDER))
def test_ssh_out_of_order(service: Service, ssh: Ssh, sent: str) -> None:
    """Packets in a wrong order, or that are none, end the connection, and nothing else."""
    with connected(ssh.port) as one, contextlib.suppress(OSError):
        one.sendall(b"SSH-2.0-odd\r\n" + OUT_OF_ORDER[sent])
        ends(one)
    assert ssh.run("2 + 2").stdout == "4\n"


def test_one_line_of_it(service: Service, ssh: Ssh) -> None:
    """The log says in one line who was disconnected, and why."""
    before = len(service.log.read_text())
    with connected(ssh.port) as one:
        one.sendall(b"SSH-2.0-odd\r\n" + OUT_OF_ORDER["new keys first"])
        ends(one)
    said = service.log.read_text()[before:]
    assert said.count("console: ssh 127.0.0.1 is disconnected: what it sends is out of order: ") == 1


def test_sessions_without_end(service: Service, ssh: Ssh) -> None:
    """A connection has as many sessions as OpenSSH allows; the next is refused, and others log in meanwhile."""
    way = ssh.directory / "many"
    master = subprocess.Popen(ssh.command("-M", f"-S{way}", "-N"), stdin=subprocess.DEVNULL)
    sessions = []
    try:
        wait_until(way.exists)
        for _ in range(MOST_SESSIONS):
            command = ssh.command(f"-S{way}", "-tt")
            sessions.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert b"datamover" in sessions[-1].stdout.readline()  # type: ignore[union-attr]
        refused = ssh.run(f"-S{way}", "-oControlMaster=no", "2 + 2")
        assert "open refused by peer" in refused.stderr
        assert ssh.run("2 + 2").stdout == "4\n"
        sessions[0].kill()
        wait_until(lambda: ssh.run(f"-S{way}", "2 + 2").stdout == "4\n")
    finally:
        for each in (*sessions, master):
            each.kill()
            each.communicate()


class Plain(Telnet):
    """A client that knows no options, such as netcat: it answers nothing."""

    def _negotiate(self, data: bytes) -> None:
        pass


class Contrary(Telnet):
    """A client that refuses all, and asks for all, again and again."""

    def _negotiate(self, data: bytes) -> None:
        for option in range(40):
            for verb in (b"\xfc", b"\xfe", b"\xfb", b"\xfd", b"\xfc"):
                self._socket.sendall(b"\xff" + verb + bytes([option]))


class Stopped(Telnet):
    """A terminal that is stopped for a while (Ctrl-S)."""

    def go_on(self, expected: bytes) -> bytes:
        """Read what came meanwhile, and type something whenever nothing more comes, until ``expected`` is shown."""
        said, deadline = b"", time.monotonic() + PATIENCE
        while expected not in said[-100_000:]:
            assert time.monotonic() < deadline, said[-1000:]
            try:
                said += self._socket.recv(2**20)
            except TimeoutError:
                self.type("2 + 2")
        return said


@pytest.mark.parametrize("way", ["telnet", "ssh"])
def test_what_nobody_reads(service: Service, port: int, ssh: Ssh, way: str) -> None:
    """What is shown and not read has a bound; whoever reads again is told how much is left out."""
    line = f"[print('y' * 10**6) for _ in range({SHOWN // 10**6})] and None"
    before = service.memory()
    if way == "telnet":
        terminal = log_in(Stopped(port))
        terminal.type(line)
    else:
        showing = subprocess.Popen(ssh.command(line), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    logged_in(port).close()
    if way == "telnet":
        said = terminal.go_on(b"left out")
        terminal.close()
    else:
        said, _ = showing.communicate(timeout=PATIENCE)
    assert b"bytes that were not read in time are left out" in said
    assert len(said) < SHOWN / 2
    assert service.memory() - before < SHOWN / 2


@pytest.mark.parametrize("client", [Plain, Contrary])
def test_telnet_without_options(service: Service, port: int, client: type[Telnet]) -> None:
    """Whoever answers no option, or each otherwise than was asked, logs in and types all the same."""
    terminal = client(port)
    terminal.until("Username: ")
    terminal.type("operator")
    terminal.until("Password: ")
    terminal.type(PASSWORD)
    terminal.until(">>> ")
    assert "4" in terminal.ask("2 + 2", "4")
    terminal.close()


@pytest.mark.parametrize("after", [b"", b"operator\r\n", b"operator\r\nwrong\r\n"])
def test_telnet_that_hangs_up(service: Service, port: int, after: bytes) -> None:
    """A client that leaves in the middle of the login leaves nothing behind."""
    with connected(port) as one:
        one.recv(100)
        one.sendall(after)
        time.sleep(0.1)
    logged_in(port).close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\x01",
        b"\xff\xfa" + b"x" * 2**19,
        b"x" * 2**19,
        b"\xff\xf0\r",
        b"\xff\xfa\xff\xf0",
        b"\xff\xfa\x1f\xff\xf0",
    ],
    ids=["no command", "an option without end", "a line without end", "an end", "no option", "no size"],
)
def test_telnet_out_of_order(service: Service, port: int, sent: bytes) -> None:
    """Commands that are none, and what never ends, end the connection at most."""
    with connected(port) as one, contextlib.suppress(OSError):
        one.sendall(sent)
        one.shutdown(socket.SHUT_WR)
        ends(one)
    logged_in(port).close()
