"""[service] engine_processes: one service whose engine is several processes, however it is run."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.service import PATIENCE, TWISTD, Service, twistd
from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
SIZE = 600_000
RATE = 200_000
"""Bytes a second at which the web server gives each file: three seconds for one."""

TABLES = """engine_processes = 2
lease = "10m"  # nothing here goes on because a lease ran out
[database]
url = "{database}"
[sources]
allow = ["http://127.0.0.1:*/"]
[transfers]
retry_base = "100ms"
[destinations.archive]
url = "file://{directory}/archive"
"""


@pytest.fixture
def web(open_directory: Path) -> Iterator[Nginx]:
    """nginx that takes its time."""
    (open_directory / "web").mkdir()
    with Nginx(open_directory / "web", config=f"limit_rate {RATE};") as web:
        yield web


class Processes(Service):
    """The service, its engine two processes."""

    def __init__(self, directory: Path, *, command: Callable[[Path], list[str]] | None = None) -> None:
        self.database = postgres.shared().fresh()
        super().__init__(directory, TABLES.format(database=self.database, directory=directory), command=command)

    def children(self) -> list[int]:
        """Return its engine processes."""
        return sorted(engines_of(self.pid))

    def ready(self) -> bool:
        return get(self, "health/ready") == "ok\n"

    def work(self, web: Nginx, files: int, size: int = SIZE, *, path: str = "in/") -> int:
        """Have files moved in one job, and return it."""
        for number in range(files):
            (web.directory / f"{number}.bin").write_bytes(os.urandom(size))
        sources = [f"{web.url}/{number}.bin" for number in range(files)]
        request = {"files": [{"source": source, "destination": "archive", "path": path} for source in sources]}
        return int(self.proxy.jobs.submit(request)["id"])

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return postgres.shared().server.run(statement, database=self.database.rpartition("/")[2])

    def holders(self) -> list[int]:
        """Return the process of each transfer that is worked on, in the order of the processes."""
        names = self.sql("SELECT n.name FROM transfers t JOIN nodes n ON n.id = t.node")
        return sorted(int(name.rpartition(":")[2]) for (name,) in names)

    def value(self, name: str, **labels: str) -> float | None:
        """Return what /metrics tells, None where there is no such thing; nothing in it is told twice."""
        found = {}
        for family in text_string_to_metric_families(get(self, "metrics")):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in found, f"{key} is told twice"
                found[key] = sample.value
        return found.get((f"datamover_{name}", tuple(sorted(labels.items()))))


def get(service: Service, page: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/{page}") as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        with refused:
            return str(refused.read().decode())


def engines_of(parent: int) -> list[int]:
    """Return the engine processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            started_by = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if started_by == parent and b"datamover.engine_process" in (entry / "cmdline").read_bytes():
                found.append(pid)
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def tac(_: Path) -> list[str]:
    return [str(TWISTD), "-n", "--pidfile=", "-y", str(CHECKOUT / "datamover.tac")]


def twist(config: Path) -> list[str]:
    return [str(TWISTD.with_name("twist")), "datamover", "--config", str(config)]


def test_work_is_shared(open_directory: Path, web: Nginx) -> None:
    """Both processes move what is asked, their metrics add up, and a stop by SIGTERM has both hand back their work."""
    service = Processes(open_directory)
    service.start()
    try:
        wait_until(service.ready, "both processes at work")
        one, other = children = service.children()
        job = service.work(web, 8)
        # Eight at once are allowed at the destination; each process takes its part of them.
        wait_until(lambda: service.holders() == sorted(children * 4), "eight transfers, four with each")
        assert service.ended(job)["status"] == "COMPLETED"
        wait_until(lambda: service.value("attempts_total", outcome="completed") == 8, "eight attempts told")
        wait_until(
            lambda: service.value("bytes_moved_total", destination="archive") == 8 * SIZE, "every byte told once"
        )
        assert service.value("claims_total") == 8
        assert service.value("lease_takeovers_total") == service.value("engine_process_ends_total") == 0
        assert service.value("engine_processes") == 2
        for number in ("1", "2"):
            assert (service.value("engine_process_resident_memory_bytes", process=number) or 0) > 10_000_000
        nodes = service.proxy.service.status()["nodes"]
        assert sorted(int(node["name"].rpartition(":")[2]) for node in nodes) == children
        assert {tuple(node["roles"]) for node in nodes} == {("engine",)}
        for pid in children:
            assert f"[datamover.engine.worker#info,{pid}] job {job}: moved" in service.log.read_text()

        # The next job is interrupted.
        wait_until(lambda: not service.holders(), "everything written")
        service.work(web, 2, 50 * SIZE, path="again/")
        wait_until(lambda: len(service.holders()) == 2, "both files on their way")
        for _ in range(2):  # As a supervisor does that tells every process, and has no patience.
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGTERM)
            time.sleep(0.1)
    finally:
        service.stop()
    assert not lives(one)
    assert not lives(other)
    assert not service.holders()
    assert service.sql("SELECT count(*) FROM nodes") == [(0,)]
    # The one's may have been taken up by the other, and handed back once more.
    assert service.sql("SELECT DISTINCT state FROM transfers WHERE state <> 'COMPLETED'") == [("PENDING",)]
    assert "Traceback" not in service.log.read_text()


def test_a_process_that_is_killed(open_directory: Path, web: Nginx) -> None:
    """What a process held goes on at once when it is killed, long before its lease has run out, and it is replaced."""
    service = Processes(open_directory, command=tac)
    service.start({"DATAMOVER_CONFIG": str(service.config)})
    try:
        wait_until(service.ready, "both processes at work")
        job = service.work(web, 4, 2 * SIZE)
        holders = wait_until(lambda: len(found := service.holders()) == 4 and found, "four files on their way")
        killed = holders[0]
        left = [pid for pid in service.children() if pid != killed]
        wait_until(lambda: service.value("claims_total") == 4, "the claims told")
        os.kill(killed, signal.SIGKILL)
        wait_until(
            lambda: killed not in service.holders() and len(service.holders()) == 4, "all four on their way again"
        )
        assert service.ended(job)["status"] == "COMPLETED"
        wait_until(service.ready, "both processes at work again")
        assert set(left) < set(service.children())
        assert len(service.children()) == 2
        wait_until(lambda: service.value("attempts_total", outcome="completed") == 4, "four attempts told")
        assert service.value("lease_takeovers_total") == holders.count(killed)
        assert service.value("claims_total") == 4 + holders.count(killed)
        assert service.value("engine_process_ends_total") == 1
        assert (
            f"engine process {killed} was ended by signal 9: its work goes back to the queue" in service.log.read_text()
        )
    finally:
        service.stop()


def test_a_reload_renews_them(open_directory: Path, web: Nginx) -> None:
    """New settings reach every process, which starts anew for them; what it held goes on where it was."""
    service = Processes(open_directory)
    service.start()
    try:
        wait_until(service.ready, "both processes at work")
        before = service.children()
        job = service.work(web, 2)
        wait_until(lambda: len(service.holders()) == 2, "both files on their way")
        wait_until(lambda: service.proxy.jobs.status(job)["bytes_done"] > SIZE / 4, "some of them here")
        added = f'[destinations.later]\nurl = "file://{service.directory}/later"\n'
        service.config.write_text(service.config.read_text() + added)
        assert "destinations.later" in str(service.proxy.service.reload())
        wait_until(
            lambda: len(service.children()) == 2 and not set(service.children()) & set(before), "two new processes"
        )
        assert service.ended(job)["status"] == "COMPLETED"
        later = {"source": f"{web.url}/0.bin", "destination": "later", "path": "a.bin"}
        assert service.ended(service.proxy.jobs.submit(later)["id"])["status"] == "COMPLETED"
        moved = [service.directory / "archive/in/0.bin", service.directory / "later/a.bin"]
        assert [file.read_bytes() == (web.directory / "0.bin").read_bytes() for file in moved] == [True, True]
        resumed = [one["from"] for one in service.proxy.jobs.events({"job": job})["events"] if one["kind"] == "resumed"]
        assert len(resumed) == 2
        assert min(resumed) > 0
        assert service.value("lease_takeovers_total") == 0
    finally:
        service.stop()


def test_the_parent_is_killed(open_directory: Path, web: Nginx) -> None:
    """Processes whose parent is gone hand back their work and end by themselves."""
    service = Processes(open_directory, command=twist)
    service.start()
    wait_until(service.ready, "both processes at work")
    children = service.children()
    service.work(web, 4, 20 * SIZE)
    wait_until(lambda: len(service.holders()) == 4, "four files on their way")
    service.kill()
    wait_until(lambda: not any(lives(pid) for pid in children), "both ended")
    assert not service.holders()
    assert service.sql("SELECT count(*) FROM nodes") == [(0,)]


def test_in_the_background(open_directory: Path) -> None:
    """Processes of a service in the background write to its log, and a process that cannot work ends it, told once."""
    (open_directory / "files").mkdir()
    service = Processes(open_directory)
    pidfile, log = open_directory / "twistd.pid", open_directory / "twistd.log"
    command = [str(TWISTD), f"--pidfile={pidfile}", f"--logfile={log}", "datamover", "--config", str(service.config)]
    staging = open_directory / "data/staging"
    stray = staging / "stray.lock"
    stray.mkdir(parents=True)  # Where a lock would be a file.
    subprocess.run(command, cwd=open_directory, check=True, timeout=PATIENCE)
    wait_until(lambda: log.exists() and "Server Shut Down" in log.read_text(), "its end")
    wait_until(lambda: not pidfile.exists(), "its end")
    assert log.read_text().count(f"the staging directory {staging} cannot be used") == 1
    assert "datamover cannot run: " in log.read_text()

    stray.rmdir()
    subprocess.run(command, cwd=open_directory, check=True, timeout=PATIENCE)
    pid = int(pidfile.read_text())
    wait_until(lambda: _answers(service) and service.ready(), "both processes at work")
    children = engines_of(pid)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists(), "its end")
    assert len(children) == 2
    assert not any(lives(child) for child in children)
    for child in children:
        assert f",{child}] Main loop terminated." in log.read_text()


def _answers(service: Service) -> bool:
    try:
        return bool(get(service, "health/live"))
    except urllib.error.URLError:
        return False


def test_more_processes_than_transfers(tmp_path: Path) -> None:
    """More processes than they may have transfers together stop the start, with one line."""
    config = tmp_path / "datamover.toml"
    config.write_text(f"[service]\ndata_directory = '{tmp_path}/data'\nmax_active = 3\nengine_processes = 4\n")
    ended = subprocess.run(twistd(config), capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=tmp_path)
    assert ended.returncode == 1
    line = f"{config}: service.engine_processes = 4: expected at most service.max_active, 3, which they share"
    assert ended.stderr == f"datamover: {line}\n"
