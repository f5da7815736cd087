"""The log as an operator reads it: the first lines, what moved, rotation, and the other runner."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datamover.app.announcing import PATH
from tests.servers.nginx import Nginx
from tests.servers.service import TWISTD, Service

ROOT = Path(__file__).parents[2]


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
    eventually(lambda: "is ready" in service.log.read_text())
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
    assert "destination local: " in service.log.read_text()
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
    eventually(lambda: "SIGHUP" in [one["who"] for one in trail()["entries"] if one["action"] == "service.reload"])


def test_logrotate(open_directory: Path) -> None:
    """After a rename and the sample's script for logrotate the service goes on in a new file, with the mode of the old.

    Without the rename the same signal rotates the file as Twisted does.
    """
    log, pid = open_directory / "twistd.log", open_directory / "twistd.pid"

    def command(config: Path) -> list[str]:
        options = ["-n", f"--pidfile={pid}", f"--logfile={log}"]
        return [str(TWISTD), *options, "datamover", "--config", str(config)]

    sample = re.search(r"postrotate\n(.*?)endscript", (ROOT / "etc/datamover.logrotate").read_text(), re.DOTALL)
    assert sample is not None
    script = sample[1].replace("/run/datamover/twistd.pid", str(pid))
    service = Service(open_directory, "", command=command)
    service.start()
    try:
        old = log.rename(open_directory / "twistd.log-20261128")
        subprocess.run(["sh", "-ec", script], check=True)
        eventually(log.exists)
        service.proxy.service.reload()
        eventually(lambda: "was read again" in log.read_text())
        assert log.stat().st_mode & 0o777 == 0o640
        assert "data directory" in old.read_text()
        assert "was read again" not in old.read_text()
        os.kill(service.pid, signal.SIGUSR1)
        eventually((open_directory / "twistd.log.1").exists)
    finally:
        service.stop()


@pytest.mark.parametrize(("told", "text"), [((), True), (("--log-format=json",), False)])
def test_twist_writes_text(open_directory: Path, told: tuple[str, ...], text: bool) -> None:
    """The other runner writes text where its output is no terminal, unless it is told otherwise."""
    twist = str(TWISTD.with_name("twist"))
    service = Service(open_directory, "", command=lambda config: [twist, *told, "datamover", "--config", str(config)])
    service.start()
    service.stop()
    line = next(line for line in service.log.read_text().splitlines() if "data directory" in line)
    assert bool(re.match(r"\d{4}-\d\d-\d\d", line)) == text
