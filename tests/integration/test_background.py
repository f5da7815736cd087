"""The service in the background: what the terminal is told, what becomes of modes and names, how it ends."""

import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest

from tests.servers import postgres
from tests.servers.certificates import Authority
from tests.servers.others import as_user, reachable
from tests.servers.ports import free_port
from tests.servers.service import PATIENCE, TWISTD

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root becomes somebody else, and mounts disks")


@dataclass
class Daemon:
    """``twistd datamover`` in ``directory``, started as ``user`` (None: as this process) with a ``umask``."""

    directory: Path
    more: str = ""
    user: str | None = None
    umask: int = 0o022
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.data = self.directory / "data"
        self.log = self.directory / "twistd.log"
        self.pid_file = self.directory / "twistd.pid"
        self.config = self.directory / "datamover.toml"
        self.config.write_text(
            f'[service]\nlisten = ["tcp:{self.port}:interface=127.0.0.1"]\ndata_directory = "{self.data}"\n{self.more}'
        )

    def start(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run what a person types, to its end; ``command`` instead of ``twistd`` in the background."""
        line = [*(command or (str(TWISTD), *self.options)), "datamover", "--config", str(self.config)]
        if self.user is not None:
            line = as_user(self.user, line)
        elif "--uid" in self.options:
            line = reachable(line)
        return subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
            cwd=self.directory, umask=self.umask,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def ready(self, engines: int = 1) -> dict[str, Any]:
        """Wait until it works, with so many engines, and return what it tells of itself."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(OSError), ServerProxy(f"http://127.0.0.1:{self.port}/data_mover") as proxy:
                told: Any = proxy.service.status()
                if told["ready"] and len(told["nodes"]) == engines:
                    return dict(told)
            assert self.pid_file.exists(), f"it ended:\n{self.log.read_text()}"
            time.sleep(0.05)
        raise AssertionError(f"it is not ready:\n{self.log.read_text()}")

    def move(self) -> Path:
        """Have a file moved within the destination ``local``, into a directory that is made for it."""
        place = self.directory / "local"
        with ServerProxy(f"http://127.0.0.1:{self.port}/data_mover") as proxy:
            mover: Any = proxy
            request = {"source": {"destination": "local", "path": "f"}, "destination": "local", "path": "new/f"}
            job = mover.jobs.submit(request)["id"]
            assert mover.jobs.wait(job, PATIENCE)["status"] == "COMPLETED"
        return place / "new/f"

    def stop(self) -> None:
        """End it as ``kill`` does, and wait until it is gone."""
        if not self.pid_file.exists():
            return
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        self.gone(pid)

    def gone(self, pid: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, f"it does not end:\n{self.log.read_text()}"
            time.sleep(0.02)


@contextmanager
def running(daemon: Daemon, engines: int = 1) -> Iterator[dict[str, Any]]:
    started = daemon.start()
    try:
        assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
        yield daemon.ready(engines)
    finally:
        daemon.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def given() -> str:
    """Return the table of a database that is there already."""
    return f'[database]\nurl = "{postgres.shared().fresh()}"\n'


def with_place(directory: Path, owner: str | None = None) -> str:
    """Return the table of a destination that holds one file."""
    place = directory / "local"
    place.mkdir()
    (place / "f").write_bytes(b"content")
    if owner is not None:
        os.chown(place, pwd.getpwnam(owner).pw_uid, -1)
    return f'[destinations.local]\nurl = "file://{place}"\n'


@pytest.mark.parametrize(
    ("user", "umask", "options"),
    [
        (None, 0o022, ()),
        (None, 0, ("--umask=0",)),
        pytest.param("nobody", 0o777, ("--umask=777",), marks=only_root),
    ],
)
def test_modes_and_names(open_directory: Path, user: str | None, umask: int, options: tuple[str, ...]) -> None:
    """A fresh start works as root and as another, and what it makes has its mode, whatever the umask; the process
    is called by its own number, wherever it is named."""
    if user is not None:
        os.chown(open_directory, pwd.getpwnam(user).pw_uid, -1)
    daemon = Daemon(open_directory, with_place(open_directory, user), user, umask, options)
    with running(daemon) as told:
        name = f"{socket.gethostname()}:{daemon.pid}"
        assert [node["name"] for node in told["nodes"]] == [name]
        if user is not None:
            assert os.stat(f"/proc/{daemon.pid}").st_uid == pwd.getpwnam(user).pw_uid
        placed = daemon.move()
        assert (mode(placed), mode(placed.parent)) == (0o644, 0o755)
        modes = {
            path: mode(path)
            for path in (daemon.data, daemon.data / "key", daemon.data / "staging", daemon.log, daemon.pid_file)
        }
        assert list(modes.values()) == [0o711, 0o600, 0o700, 0o640, 0o644], modes
        with ServerProxy(f"http://127.0.0.1:{daemon.port}/data_mover") as proxy:
            mover: Any = proxy
            assert mover.service.drain(name)
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert "stopped the embedded PostgreSQL" in log
    assert not daemon.pid_file.exists()


def test_engine_processes(open_directory: Path) -> None:
    """Each of several engine processes is called by its own number, and ends with the daemon."""
    daemon = Daemon(open_directory, "engine_processes = 2\n" + given() + with_place(open_directory))
    with running(daemon, engines=2) as told:
        children = {int(name.rpartition(":")[2]) for name in (node["name"] for node in told["nodes"])}
        parents = {int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]) for child in children}
        assert parents == {daemon.pid}
        assert daemon.move().exists()
    for child in children:
        daemon.gone(child)


@only_root
def test_other_account(open_directory: Path) -> None:
    """With ``--uid`` what it makes is that user's, who runs it, the database too, and stops it in order."""
    socket_path = open_directory / "data" / "socket"
    tables = with_place(open_directory, "nobody")
    daemon = Daemon(open_directory, tables, options=("--uid", "nobody"))
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("listen = [", f'listen = ["unix:{socket_path}:mode=660", '))
    with running(daemon):
        owners = {path.name: path.lstat().st_uid for path in (daemon.data, *daemon.data.iterdir())}
        assert set(owners.values()) == {pwd.getpwnam("nobody").pw_uid}, owners
        assert {"data", "key", "staging", "postgresql", "socket"} <= set(owners)
        assert os.stat(f"/proc/{daemon.pid}").st_uid == pwd.getpwnam("nobody").pw_uid
        assert daemon.move().exists()
    assert "Traceback" not in daemon.log.read_text()
    assert not socket_path.exists()


@only_root
def test_other_account_may_not(open_directory: Path) -> None:
    """What root may read and the coming user may not is found before anybody relies on it."""
    key = open_directory / "key"
    key.write_text("a key")
    key.chmod(0o600)
    daemon = Daemon(open_directory, f'key_file = "{key}"\n', options=("--uid", "nobody"))
    assert refused(daemon) == f"datamover: service.key_file: {key}: Permission denied"


def refused(daemon: Daemon, *command: str) -> str:
    """Start one that cannot, and return the line that says why: on the terminal, and in the log."""
    ended = daemon.start(*command)
    assert ended.returncode == 1, ended
    (line,) = ended.stderr.splitlines()
    assert not daemon.pid_file.exists()
    if not command:
        assert ended.stdout == ""
        log = daemon.log.read_text()
        assert f"datamover cannot run: {line.removeprefix('datamover: ')}" in log
        assert "Traceback" not in log
    return line


def test_port_in_use(open_directory: Path) -> None:
    """A port that another has is told, in the background as by twist; nothing has been started then."""
    daemon = Daemon(open_directory)
    told = f"datamover: 'tcp:{daemon.port}:interface=127.0.0.1' cannot be listened on: Address already in use; "
    with socket.create_server(("127.0.0.1", daemon.port)):
        assert refused(daemon).startswith(told)
        assert refused(daemon, str(TWISTD), "-n").startswith(told)
        assert refused(daemon, str(TWISTD.with_name("twist"))).startswith(told)
    assert not (daemon.data / "postgresql/cluster").exists()
    taken = open_directory / "socket"
    (open_directory / "socket.lock").symlink_to(str(os.getpid()))  # As a process that serves it has it.
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("listen = [", f'listen = ["unix:{taken}", '))
    assert refused(daemon).endswith("cannot be listened on: Cannot acquire lock; does another datamover run already?")


def test_second(open_directory: Path) -> None:
    """A second start beside one that runs ends with a sentence, and leaves the first as it is."""
    daemon = Daemon(open_directory, given() + with_place(open_directory))
    with running(daemon):
        first = daemon.pid
        again = daemon.start()
        assert again.returncode == 1
        assert f"Another twistd server is running, PID {first}" in again.stderr
        elsewhere = daemon.start(str(TWISTD), "--pidfile=", f"--logfile={open_directory}/other.log")
        assert elsewhere.returncode == 1
        assert "does another datamover run already?" in elsewhere.stderr
        assert daemon.move().exists()
        assert daemon.pid == first


@only_root
@pytest.mark.parametrize("there", [True, False])
def test_directory_of_others(open_directory: Path, there: bool) -> None:
    """A data directory that the user may not write, or not make, is told with the user's name."""
    daemon = Daemon(open_directory, user="nobody", options=("--logfile=/dev/null", "--pidfile="))
    if there:
        daemon.data.mkdir(mode=0o755)
    ended = daemon.start()
    (line,) = ended.stderr.splitlines()
    directory = daemon.data / "postgresql" if there else daemon.data
    assert ended.returncode == 1
    assert line.startswith(f"datamover: service.data_directory: {directory}: Permission denied (as user 'nobody'): ")


@only_root
def test_no_room(open_directory: Path) -> None:
    """A disk on which no database can be made is told before it is tried, and one that is full."""
    disk = open_directory / "data"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "tmpfs", str(disk)], check=True)
    try:
        daemon = Daemon(open_directory)
        assert "a new database needs 96 MiB, and 1 MiB are free" in refused(daemon)
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        given = '[database]\nurl = "postgresql://a@127.0.0.1:1/b"\n'
        full = refused(Daemon(open_directory, f'roles = ["api"]\n{given}'))
        assert full == f"datamover: service.key_file: {disk}/key: No space left on device"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("not a key", 0o600, "is not a key: restore it from a backup, or name another file"),
        ("", 0o644, "has permissions 0644, so others may read or change it"),
    ],
)
def test_wrong_key(open_directory: Path, content: str, mode: int, told: str) -> None:
    """A key file that is none, or that others may read, is told."""
    key = open_directory / "key"
    key.write_text(content)
    key.chmod(mode)
    line = refused(Daemon(open_directory, f'key_file = "{key}"\n'))
    assert f"service.key_file: {key} {told}" in line


def test_wrong_certificate(open_directory: Path) -> None:
    """A key that is not the certificate's is told, with both names."""
    authority = Authority(open_directory)
    (certificate, _), (_, key) = authority.issue(), authority.issue()
    tables = f'[tls]\ncertificate_file = "{certificate}"\nkey_file = "{key}"\n'
    line = refused(Daemon(open_directory, tables))
    assert f"tls.key_file: {key} is not the key of the certificate in certificate_file" in line


def test_wrong_password_file(open_directory: Path) -> None:
    """A password that cannot be read is told before the database is asked."""
    tables = f'[database]\nurl = "postgresql://a@127.0.0.1:1/b"\npassword_file = "{open_directory}/none"\n'
    line = refused(Daemon(open_directory, tables))
    assert line == f"datamover: database.password_file: {open_directory}/none: No such file or directory"


def test_ends_later(open_directory: Path) -> None:
    """What is found only when it runs, as a database that cannot be started, is in the log, and ends the process with a
    status other than 0."""
    daemon = Daemon(open_directory, with_place(open_directory))
    with running(daemon):
        pass
    with (daemon.data / "postgresql/cluster/postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    before = len(daemon.log.read_text())
    assert daemon.start().returncode == 0
    deadline = time.monotonic() + PATIENCE
    while daemon.pid_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log = daemon.log.read_text()[before:]
    assert re.search(r"#critical\] datamover cannot run: PostgreSQL's pg_ctl failed: .*; see .*/postgresql/log", log), (
        log
    )
    ended = daemon.start(str(TWISTD), "-n", "--pidfile=")
    assert ended.returncode == 1
    assert "datamover cannot run: PostgreSQL's pg_ctl failed" in ended.stdout


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_version(program: str) -> None:
    """``--version`` after ``datamover`` is datamover's."""
    done = subprocess.run(
        [str(TWISTD.with_name(program)), "datamover", "--version"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    installed = subprocess.run(
        [sys.executable, "-m", "datamover.admin", "--version"], capture_output=True, text=True, check=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, installed.stdout, "")
