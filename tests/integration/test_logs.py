"""The log as an operator reads it: the first lines, what moved, rotation, and the other runner."""

import grp
import gzip
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any
from xmlrpc.client import ServerProxy

import pytest

from datamover.app.announcing import PATH
from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.service import TWISTD, Service
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    open_directory = Path(tempfile.mkdtemp())
    open_directory.chmod(0o755)
    service = Service(open_directory, '[sources]\nallow = ["http://127.0.0.1:*/"]\n')
    service.start()
    yield service
    service.stop()
    shutil.rmtree(open_directory)


def test_the_first_lines(service: Service) -> None:
    """The start tells what was read, where everything is and where to call; one line tells when it is ready."""
    wait_until(lambda: "is ready" in service.log.read_text())
    log = service.log.read_text()
    data = service.directory / "data"
    for line in (
        f"configuration: {service.config}",
        f"data directory: {data}",
        f"database: embedded, in {data}",
        f"listener: http://127.0.0.1:{service.port}{PATH}",
        f"destination: local: {data}/files",
    ):
        assert line in log
    [ready] = [line for line in log.splitlines() if "is ready" in line]
    assert f"call {service.url}; configuration {service.config}; destination local is {data}/files; try: " in ready
    assert log.index("the database is open") < log.index("is ready")
    example = re.search(r'try: python3 -c "(.*)"', ready)
    assert example is not None
    tried = subprocess.run(["python3", "-c", example[1]], capture_output=True, text=True, check=True)
    assert "'ready': True" in tried.stdout


def test_local_goes_and_comes(service: Service) -> None:
    """The log says when ``local`` goes because a destination is named, how to keep it, and when it is there again."""
    before = service.config.read_text()
    archive = f'[destinations.archive]\nurl = "file://{service.directory}/archive"\n'
    service.config.write_text(before + archive)
    service.proxy.service.reload()
    files = service.directory / "data/files"
    assert f'to keep it, add [destinations.local] with url = "file://{files}"' in service.log.read_text()
    assert [each["name"] for each in service.proxy.destinations.list()] == ["archive"]
    service.config.write_text(before)
    service.proxy.service.reload()
    assert f"destination local is {files}, since no destination is configured" in service.log.read_text()
    assert [each["name"] for each in service.proxy.destinations.list()] == ["local"]


def test_what_moved(service: Service) -> None:
    """A file that is in place is a line: from where, to where, how much, in what time, how fast."""
    (service.directory / "web").mkdir()
    (service.directory / "web/a.bin").write_bytes(os.urandom(48_000_000))
    with Nginx(service.directory / "web") as web:
        request = {"source": f"{web.url}/a.bin", "destination": "local", "path": "in/"}
        job = service.proxy.jobs.submit(request)["id"]
        assert service.ended(job)["status"] == "COMPLETED"
        again = service.proxy.jobs.submit(request)["id"]
        assert service.ended(again)["status"] == "COMPLETED"
    log = service.log.read_text()
    moved = rf"job {job}: moved {web.url}/a.bin to local:in/a.bin, 48.0 MB in \d+\.\d s(, \d+(\.\d)? MB/s)?$"
    assert re.search(moved, log, re.MULTILINE)
    assert f"asked for job {job}: 1 file, by jobs.submit" in log


def test_sighup_by_its_name(service: Service) -> None:
    """A reload by signal is in the trail as SIGHUP's."""
    os.kill(service.pid, signal.SIGHUP)
    trail = service.proxy.service.audit
    wait_until(lambda: "SIGHUP" in [one["who"] for one in trail()["entries"] if one["action"] == "service.reload"])


def given() -> str:
    """Return the table of a database that is there, where a test is of the log alone: an embedded one takes longer."""
    return f'[database]\nurl = "{postgres.shared().fresh()}"\n'


def into_a_file(directory: Path) -> Service:
    """Return a service whose log is a file of its own, as the sample for logrotate has it."""

    def command(config: Path) -> list[str]:
        options = ["-n", f"--pidfile={directory}/twistd.pid", f"--logfile={directory}/log/datamover.log"]
        return [str(TWISTD), *options, "datamover", "--config", str(config)]

    (directory / "log").mkdir()
    return Service(directory, given(), command=command)


def rotate(directory: Path, *options: str, clock: tuple[str, ...] = ()) -> None:
    """Run logrotate with the sample, with this machine's user and directories in it."""
    mine = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    sample = (ROOT / "etc/datamover.logrotate").read_text()
    for there, here in {
        "/var/log/datamover/": f"{directory}/log/",
        "/run/datamover/twistd.pid": f"{directory}/twistd.pid",
        "su datamover datamover": f"su {' '.join(mine)}",
    }.items():
        assert there in sample
        sample = sample.replace(there, here)
    (directory / "logrotate.conf").write_text(sample)
    (directory / "logrotate.conf").chmod(0o644)
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    command = [*clock, program, *options, f"--state={directory}/state", str(directory / "logrotate.conf")]
    subprocess.run(command, check=True, capture_output=True)


def test_logrotate(open_directory: Path) -> None:
    """logrotate moves the log away, the service goes on in a new file, and no line is lost or written twice.

    The next day's file is moved as well, and the first one is compressed by then.
    """
    service, logs = into_a_file(open_directory), open_directory / "log"
    current = logs / "datamover.log"
    service.start()
    asked: list[int] = []
    enough = Event()

    def ask() -> None:
        with ServerProxy(service.url) as proxy:
            while not enough.wait(0.02):
                source = {"destination": "local", "path": "none"}
                job: Any = proxy.jobs.submit({"source": source, "destination": "local", "path": "a"})
                asked.append(job["id"])

    def rotated(*how: str, clock: tuple[str, ...] = ()) -> None:
        """Rotate while lines are written; return once some are in the new file."""
        wait_until(lambda: "asked for job" in current.read_text())
        before = current.stat().st_ino
        rotate(open_directory, *how, clock=clock)
        wait_until(lambda: current.exists() and current.stat().st_ino != before)
        wait_until(lambda: "asked for job" in current.read_text())
        assert current.stat().st_mode & 0o777 == 0o640

    client = Thread(target=ask)
    client.start()
    try:
        rotated("--force")
        (first,) = logs.glob("*.log-*")
        rotated(clock=("faketime", "+25 hours"))
    finally:
        enough.set()
        client.join()
        service.stop()
    compressed, second = sorted(logs.glob("*.log-*"))
    assert compressed.name == f"{first.name}.gz"
    files = [gzip.decompress(compressed.read_bytes()).decode(), second.read_text(), current.read_text()]
    assert "data directory" in files[0]
    assert "data directory" not in "".join(files[1:])
    told = [int(number) for number in re.findall(r"asked for job (\d+):", "".join(files))]
    assert told == asked
    rotate(open_directory, clock=("faketime", "+50 hours"))  # A service that is stopped is not told.
    assert not current.exists()


def test_twisted_rotates(open_directory: Path) -> None:
    """Where nothing was renamed, the signal rotates the file as Twisted does."""
    service = into_a_file(open_directory)
    service.start()
    try:
        os.kill(service.pid, signal.SIGUSR1)
        wait_until((open_directory / "log/datamover.log.1").exists)
    finally:
        service.stop()


@pytest.mark.parametrize(("told", "text"), [((), True), (("--log-format=json",), False)])
def test_twist_writes_text(open_directory: Path, told: tuple[str, ...], text: bool) -> None:
    """The other runner writes text where its output is no terminal, unless it is told otherwise."""
    twist = str(TWISTD.with_name("twist"))
    command = [twist, *told, "datamover", "--config"]
    service = Service(open_directory, given(), command=lambda config: [*command, str(config)])
    service.start()
    service.stop()
    line = next(line for line in service.log.read_text().splitlines() if "data directory" in line)
    assert bool(re.match(r"\d{4}-\d\d-\d\d", line)) == text
