"""The service under a service manager: what it tells of itself, and the unit that is shipped for systemd."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.ports import free_port
from tests.servers.postgres import running, shared
from tests.servers.service import PATIENCE, Service

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "etc/datamover.service"

Message = dict[str, str]


class Listener:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(PATIENCE)

    def until(self, name: str, value: str) -> list[Message]:
        """Return the messages up to the first that says so."""
        heard: list[Message] = []
        deadline = time.monotonic() + PATIENCE
        while not heard or heard[-1].get(name) != value:
            assert time.monotonic() < deadline, heard[-10:]
            lines = self._socket.recv(4096).decode().split("\n")
            heard.append(dict(line.split("=", 1) for line in lines))
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.close()


def installed(directory: Path, database: str) -> Service:
    (directory / "files").mkdir()
    tables = f'[database]\nurl = "{database}"\n[destinations.local]\nurl = "file://{directory}/files"\n'
    return Service(directory, tables)


def test_ready_alive_and_stopping(tmp_path: Path, manager: Listener) -> None:
    """READY comes when calls are answered, signs of life as often as they are asked for, STOPPING before the end."""
    service = installed(tmp_path, shared().fresh())
    service.launch({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
    try:
        heard = manager.until("READY", "1")
        assert heard[-1] == {"READY": "1", "STATUS": "ready"}
        assert service.proxy.service.status()["ready"] is True
        begun = time.monotonic()
        for _ in range(5):
            assert manager.until("WATCHDOG", "1")
        assert time.monotonic() - begun > 0.2
    finally:
        service.stop()
    assert manager.until("STOPPING", "1")[-1]["STATUS"] == "stopping"


def test_not_ready(tmp_path: Path) -> None:
    """While the database is away the manager is told so, and asked to wait; READY comes when it is there.

    The socket's name is an abstract one here, and the watchdog another process's.
    """
    name = f"datamover-test-{free_port()}"
    manager = Listener(f"\0{name}")
    with running() as postgres:
        postgres.stop()
        service = installed(tmp_path, postgres.url)
        service.launch({"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"})
        try:
            assert manager.until("STATUS", "database away")[-1]["EXTEND_TIMEOUT_USEC"] == "30000000"
            postgres.start()
            heard = manager.until("READY", "1")
            assert not [message for message in heard if "WATCHDOG" in message]
            postgres.stop()
            assert manager.until("STATUS", "database away")[-1] == {"STATUS": "database away"}
        finally:
            service.stop()
            manager.close()


def analyse(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_the_unit_is_understood(tmp_path: Path) -> None:
    """systemd finds nothing to complain about in the unit, once the program is where it says."""
    unit = tmp_path / "datamover.service"
    unit.write_text(UNIT.read_text().replace("/opt/datamover", sys.prefix))
    assert analyse("verify", str(unit)) == ""


def test_the_unit_is_closed() -> None:
    """What ``systemd-analyze security`` finds open in the unit is little, and docs/operations.md gives the reason."""
    told = analyse("security", "--offline=yes", str(UNIT))
    exposure = re.search(r"Overall exposure level for datamover.service: ([\d.]+)", told)
    assert exposure is not None, told
    reasons = (ROOT / "docs/operations.md").read_text()
    assert f"**{exposure[1]}**" in reasons
    assert float(exposure[1]) < 2
    for found in re.findall(r"^✗ (\w+)=", told, re.MULTILINE):
        assert f"`{found}" in reasons, f"{found} is open, and docs/operations.md does not say why"
