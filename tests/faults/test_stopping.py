"""It always stops: within half a minute of SIGTERM, whatever hangs, and nothing is lost by it."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.faults.work import MIB, sha256, write_noise
from tests.servers import postgres
from tests.servers.gbif import DATASET, Gbif, record
from tests.servers.mounts.mount import mounted
from tests.servers.service import Command, Service, program, twistd
from tests.servers.ssh import children, send_signal
from tests.servers.sshd import Sshd
from tests.servers.web import Web, status
from tests.waiting import wait_until

LONGEST = 30.0
"""Seconds that a stop may take."""
RECORDS = 20_000
SECRET = "the-portal-s-secret"
ENDED = ("COMPLETED", "FAILED", "PARTIAL", "CANCELLED")

_TABLES = """\
lease = "3s"
notify_secret_file = "{directory}/secret"
{more}
[destinations.feed]
url = "file://{directory}/feed"
[destinations.slow]
url = "file://{directory}/slow"
bandwidth = "5MB/s"
[sources]
allow = ["http://127.0.0.1:*/", "http://hangs.example/"]
[transfers]
max_attempts = 100
retry_base = "100ms"
retry_cap = "500ms"
"""


@dataclass
class World:
    """A service that has work to do, and what there is to freeze of what it stands on."""

    directory: Path
    more: str = ""
    command: Command = program
    jobs: dict[str, int] = field(default_factory=dict)
    """By what each is about."""

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        for name in ("feed", "slow"):
            (self.directory / name).mkdir()
        write_noise(self.directory / "feed/big", 24 * MIB)
        secret = self.directory / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        tables = _TABLES.format(directory=self.directory, more=self.more)
        self.service = Service(self.directory, tables, command=self.command)

    def ask(self, about: str, destination: str = "slow", **request: Any) -> None:
        """Ask for a file of the feed, or what ``request`` tells."""
        source = {"destination": "feed", "path": "big"}
        request = {"source": source, "destination": destination, "path": about, **request}
        self.jobs[about] = self.service.proxy.jobs.submit(request)["id"]

    def status(self, about: str) -> dict[str, Any]:
        return dict(self.service.proxy.jobs.status(self.jobs[about]))

    def moving(self, about: str) -> None:
        """Wait until some of it has arrived."""
        wait_until(lambda: self.status(about)["bytes_done"] > 0, f"bytes of {about!r}: {self.status(about)}")

    def ended(self, about: str) -> dict[str, Any]:
        """Wait until a job has ended, on a service that was started again."""
        wait_until(lambda: self.status(about)["status"] in ENDED, f"the end of {about!r}")
        return self.status(about)

    def whole(self, about: str, place: Path) -> None:
        """Wait until the big file is in a place, and assert that it is as it was, with nothing left beside it."""
        assert self.ended(about)["status"] == "COMPLETED", self.status(about)
        assert sha256(place / about) == sha256(self.directory / "feed/big")
        assert not list(place.rglob(".datamover-*"))

    def log(self) -> str:
        return self.service.log.read_text()


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Have processes stand still, those that were started first also first."""
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)


def below(pid: int) -> list[int]:
    """Return a process, and those that it started."""
    return [pid, *(each for child in children(pid) for each in below(child))]


def running(pid: int, module: str) -> list[int]:
    """Return the processes of a module that a process runs, whichever of its threads started them."""
    started = [Path(task, "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    found = []
    for child in {int(each) for some in started for each in some}:
        try:
            if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue  # It has just ended.
    return found


@contextmanager
def silence(kind: socket.SocketKind, address: str, port: int = 0) -> Iterator[int]:
    """Have a port at which everything is taken and nothing answered; give its number."""
    with socket.socket(socket.AF_INET, kind) as taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taking.bind((address, port))
        if kind is socket.SOCK_STREAM:
            taking.listen(16)
        yield taking.getsockname()[1]


def asking_nobody(directory: Path) -> Callable[[Path], list[str]]:
    """Return what runs a service for which the names that it asks for hang, at a name server of ``silence``."""
    file = directory / "resolv.conf"
    file.write_text("nameserver 127.0.0.153\noptions timeout:30 attempts:5\n")
    script = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
    return lambda config: ["unshare", "--mount", "sh", "-c", script, "sh", str(file), *twistd(config)]


# What it moves from and to, and whom it asks and tells ----------------------------------------------------------


@pytest_twisted.async_yield_fixture
async def gbif() -> Any:
    gbif = Gbif(reactor)
    gbif.dataset(DATASET, "Sightings (2026).")
    gbif.taxon("2440012", "Macropus rufus", records=[record(number, 133.9, -23.7) for number in range(RECORDS)])
    await gbif.start()
    yield gbif
    await gbif.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a process ask a name server of its own")
@pytest_twisted.ensureDeferred
async def test_all_around_it_hangs(open_directory: Path, gbif: Gbif) -> None:
    """A file server, a disk, the receiver of a notice, a name and a dataset's process hang, all at the same time."""
    with ExitStack() as stack:
        sshd = Sshd(open_directory / "ssh")
        sshd.start()
        stack.callback(sshd.stop)
        mount = stack.enter_context(mounted(open_directory / "mount"))
        stack.enter_context(silence(socket.SOCK_DGRAM, "127.0.0.153", 53))
        mute = stack.enter_context(ExitStack())
        port = mute.enter_context(silence(socket.SOCK_STREAM, "127.0.0.1"))
        more = f"""\
            [database]
            url = "{postgres.shared().fresh()}"
            [gbif]
            url = "{gbif.url}"
            [destinations.hung]
            url = "{mount.url}/hung"
            [destinations.sftp]
            url = "{sshd.url}"
            private_key_file = "{sshd.private_key}"
            known_hosts_file = "{sshd.known_hosts}"
            bandwidth = "5MB/s"
            """
        world = World(open_directory / "world", more, asking_nobody(open_directory))
        stack.callback(world.service.kill)
        thawing = stack.enter_context(ExitStack())

        def hang() -> None:
            world.service.start()
            world.ask("sftp", "sftp")
            world.moving("sftp")
            thawing.enter_context(frozen(below(sshd.pid)))
            mount.stall()
            thawing.callback(mount.go_on)
            world.ask("disk", "hung")
            world.ask("name", source="http://hangs.example/file", max_attempts=1)
            world.ask("told", source={"destination": "feed", "path": "nothing"}, notify=f"http://127.0.0.1:{port}/told")
            world.ask("dataset", "feed", source="gbif://gbif?taxonKey=2440012", path="dataset/")
            cleaning = wait_until(lambda: running(world.service.pid, "gbif.clean"), "a dataset's process")
            thawing.enter_context(frozen(cleaning))
            wait_until(lambda: world.status("told")["status"] == "FAILED", "what a notice is sent of")
            time.sleep(1.0)  # For what cannot be seen from outside: a thread that asks for a name, a notice on its way.

        await deferToThread(hang)
        seconds = await deferToThread(world.service.stopped, LONGEST)
        told = world.log()
        print(f"stopped after {seconds:.1f} s")
        assert "destination-hung: Disk.inspect has not returned for " in told
        assert "names: getaddrinfo has not returned for " in told
        assert "Traceback" not in told
        assert "Server Shut Down." in told

        thawing.close()
        mute.close()
        web = Web(reactor)
        web.port = port
        web.route("/told", status(200))
        await web.start()
        world.service.command = program

        def go_on() -> None:
            world.service.start()
            world.whole("sftp", sshd.root)
            world.whole("disk", mount.back / "hung")
            assert world.ended("name")["error"]["code"] in ("CONNECT_FAILED", "TIMED_OUT")
            assert world.ended("dataset")["status"] == "COMPLETED"
            wait_until(lambda: web.asked("/told"), "the notice")
            world.service.stop()

        await deferToThread(go_on)
        await web.stop()


# What it stands on -----------------------------------------------------------------------------------------------


def test_what_it_stands_on_hangs(open_directory: Path) -> None:
    """A database hangs, its own one or a given one, or is gone; or one of its engine processes hangs."""
    with ExitStack() as stack:
        given, gone = (stack.enter_context(postgres.running()) for _ in range(2))
        worlds = {
            "own database": World(open_directory / "own"),
            "given database": World(open_directory / "given", _database(given.url)),
            "no database": World(open_directory / "gone", _database(gone.url)),
            "engine process": World(
                open_directory / "engine", f"engine_processes = 2\n{_database(postgres.shared().fresh())}"
            ),
        }
        for world in worlds.values():
            stack.callback(world.service.kill)
            world.service.start()
            world.ask("file")
            world.moving("file")
        thawing = stack.enter_context(ExitStack())
        own = int((open_directory / "own/data/postgresql/cluster/postmaster.pid").read_text().splitlines()[0])
        assert given.process is not None
        engine = running(worlds["engine process"].service.pid, "engine_process")[0]
        for pid in (own, given.process.pid, engine):
            thawing.enter_context(frozen(below(pid)[::-1]))
        gone.kill()

        with ThreadPoolExecutor(len(worlds)) as threads:
            stops = {what: threads.submit(world.service.stopped, LONGEST) for what, world in worlds.items()}
        print({what: round(stop.result(), 1) for what, stop in stops.items()})
        for what, world in worlds.items():
            assert "Traceback" not in world.log(), what
        assert "is left running" in worlds["own database"].log()

        thawing.close()
        gone.start()
        for world in worlds.values():
            world.service.start()
            world.whole("file", world.directory / "slow")
            world.service.stop()


def _database(url: str) -> str:
    return f'[database]\nurl = "{url}"'
