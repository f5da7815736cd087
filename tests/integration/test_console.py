"""The console, as a person uses it over telnet."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamover.logins import hash_password
from tests.servers import postgres
from tests.servers.service import PATIENCE, Service, free_port

PASSWORD = "open sesame"

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

    def close(self) -> None:
        self._socket.close()


def _plain(data: bytes) -> str:
    text = _NEGOTIATION.sub(b"", data)
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[c=>])", "", text.decode("utf-8", "replace"))


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def service(open_directory: Path, port: int) -> Iterator[Service]:
    tables = f"""
[database]
url = "{postgres.shared().fresh()}"
[destinations.archive]
url = "file://{open_directory}/archive"
description = "For keeps"
[console]
telnet = "tcp:{port}:interface=127.0.0.1"
password_hash = "{hash_password(PASSWORD)}"
"""
    service = Service(open_directory, tables)
    service.start()
    yield service
    service.stop()


def test_looking_in(service: Service, port: int, open_directory: Path) -> None:
    """Every name answers with what is true of the live service, in a table or in words."""
    (open_directory / "archive").mkdir()
    (open_directory / "archive/a.csv").write_bytes(b"a" * 1500)
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
        assert "explain(12)" in terminal.ask("help()", "this list")
        listed = terminal.ask("jobs()", "copy")
        assert re.search(rf"{bad} +FAILED +local +0/1", listed)
        assert "SOURCE_NOT_FOUND" in listed
        told = terminal.ask(f"job({good})", "sha256:")
        assert "COMPLETED" in told
        assert "archive:b.csv" in told
        assert "1.5 kB" in told
        assert "For keeps" in terminal.ask("destinations()", "For keeps")
        assert "nothing" in terminal.ask("transfers()", "nothing")
        assert "does not exist" in terminal.ask(f"explain({bad})", "back in the queue")
        assert "there is no job 99" in terminal.ask("job(99)", "there is no job 99")
        assert "4" in terminal.ask("2 + 2", "4")
    finally:
        terminal.close()
    service.stop()
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
