"""The service, watched as Prometheus and a supervisor watch it."""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xmlrpc.client import Fault, ProtocolError, ServerProxy

import pytest
from prometheus_client.parser import text_string_to_metric_families

from datamover.errors import UnknownJob
from datamover.security.passwords import hash_password
from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.service import TWISTD, Service, twistd

PATIENCE = 30.0
"""Seconds that something which is awaited may take."""


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: str


def get(url: str, *, login: str = "", host: str = "", method: str = "GET") -> Answer:
    """Ask for a page, whatever its status is."""
    request = urllib.request.Request(url, method=method)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return Answer(answer.status, answer.headers["Content-Type"], answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers["Content-Type"], error.read().decode())


class Closed(Service):
    """A service with clients; ``root`` is its administrator."""

    @property
    def url(self) -> str:
        return f"http://root:root@127.0.0.1:{self.port}/data_mover"


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(url: str) -> Samples:
    """Return every sample of a scrape, by its name and labels; the text is parsed as Prometheus does."""
    answer = get(url + "/metrics")
    assert answer.status == 200
    assert answer.kind.startswith("text/plain; version=0.0.4")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.body):
        assert family.documentation, f"{family.name} has no help text"
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[(f"datamover_{name}", tuple(sorted(labels.items())))]


def eventually(url: str, name: str, expected: float, **labels: str) -> Samples:
    """Scrape until a metric has a value, and return that scrape."""
    deadline = time.monotonic() + PATIENCE
    while True:
        samples = scraped(url)
        found = samples.get((f"datamover_{name}", tuple(sorted(labels.items()))))
        if found == expected:
            return samples
        assert time.monotonic() < deadline, f"{name} {labels} is {found}"
        time.sleep(0.1)


def base(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


def tables(directory: Path, more: str = "", url: str | None = None) -> str:
    return (
        f'{more}[database]\nurl = "{url or postgres.shared().fresh()}"\n'
        '[sources]\nallow = ["http://127.0.0.1:*/"]\n[transfers]\nretry_base = "100ms"\n'
        f'[destinations.archive]\nurl = "file://{directory}/files"\n'
    )


@pytest.fixture
def service(open_directory: Path) -> Iterator[Service]:
    (open_directory / "files").mkdir()
    service = Service(open_directory, tables(open_directory))
    service.start()
    yield service
    service.stop()


def test_what_moved_is_counted(service: Service, open_directory: Path) -> None:
    """A file that arrives, and one that fails, are told by destination, by how they ended, and by the error's code."""
    (open_directory / "web").mkdir()
    (open_directory / "web/a.bin").write_bytes(os.urandom(1_000_000))
    with Nginx(open_directory / "web") as web:
        good = {"source": f"{web.url}/a.bin", "destination": "archive", "path": "a.bin"}
        bad = {**good, "source": f"{web.url}/missing", "path": "b.bin"}
        assert service.ended(service.proxy.jobs.submit(good)["id"])["status"] == "COMPLETED"
        failed = service.ended(service.proxy.jobs.submit(bad)["id"])
        code = failed["error"]["code"]
    samples = eventually(base(service), "attempts_total", 1, outcome="completed")
    assert value(samples, "bytes_moved_total", destination="archive") == 1_000_000
    assert value(samples, "attempts_total", outcome="failed") == 1
    assert value(samples, "errors_total", code=code) >= 1
    assert value(samples, "claims_total") >= 2
    assert value(samples, "lease_losses_total") == value(samples, "lease_takeovers_total") == 0


def test_what_is_taken_over_is_counted(open_directory: Path) -> None:
    """A transfer of a process that was killed is told by the one that puts it back in the queue."""
    for made in ("files", "web"):
        (open_directory / made).mkdir()
    (open_directory / "web/a.bin").write_bytes(os.urandom(1_000_000))
    slow = tables(open_directory, 'lease = "3s"\n') + 'bandwidth = "100kB/s"\n'
    service = Service(open_directory, slow)
    with Nginx(open_directory / "web") as web:
        service.start()
        try:
            request = {"source": f"{web.url}/a.bin", "destination": "archive", "path": "a.bin"}
            job = service.proxy.jobs.submit(request)["id"]
            eventually(base(service), "queue_active", 1, destination="archive")
            service.kill()
            service.start()
            samples = eventually(base(service), "lease_takeovers_total", 1)
            assert value(samples, "lease_losses_total") == 0
            service.proxy.jobs.cancel(job)
            assert service.ended(job)["status"] == "CANCELLED"
        finally:
            service.stop()


def test_calls_are_counted(service: Service) -> None:
    """Calls are told by method and outcome; names that are no methods are one, however many strangers make up."""
    service.proxy.system.listMethods()
    with pytest.raises(Fault):
        service.proxy.jobs.status(4711)
    for name in ("made_up", "made_up_too"):
        with pytest.raises(Fault):
            getattr(service.proxy, name)()
    samples = scraped(base(service))
    assert value(samples, "xmlrpc_calls_total", method="system.listMethods", outcome="ok") == 1
    assert value(samples, "xmlrpc_calls_total", method="jobs.status", outcome=str(UnknownJob.fault)) == 1
    assert value(samples, "xmlrpc_calls_total", method="unknown", outcome="8001") == 2
    assert value(samples, "xmlrpc_call_seconds_count", method="unknown") == 2
    assert value(samples, "xmlrpc_call_seconds_bucket", method="unknown", le="+Inf") == 2
    assert not [key for key in samples if "made_up" in str(key)]


def test_the_queue_is_told(service: Service) -> None:
    """What waits at a destination that is held, how long, and that it is held; and who is alive."""
    service.proxy.destinations.hold("archive", "maintenance")
    source = {"source": "http://127.0.0.1:9/a", "destination": "archive", "path": "a"}
    service.proxy.jobs.submit_many([{**source, "path": str(number)} for number in range(3)])
    eventually(base(service), "nodes", 1, role="engine")
    samples = eventually(base(service), "queue_pending", 3, destination="archive")
    assert value(samples, "destination_held", destination="archive") == 1
    assert value(samples, "destination_breaker_open", destination="archive") == 0
    assert 0 < value(samples, "queue_age_seconds", destination="archive") < PATIENCE
    assert value(samples, "queue_active", destination="archive") == 0
    assert value(samples, "transfers", state="PENDING") == value(samples, "jobs", state="PENDING") == 3
    assert value(samples, "jobs", state="IN_PROGRESS") == 0
    assert value(samples, "nodes", role="engine") == value(samples, "nodes", role="api") == 1
    assert value(samples, "database_up") == 1
    assert value(samples, "database_connections_max") == 8
    assert value(samples, "figures_age_seconds") < PATIENCE
    service.proxy.destinations.release("archive")


def test_this_process_is_told(service: Service) -> None:
    """What runs, how late its event loop is, and what the process itself uses."""
    deadline = time.monotonic() + PATIENCE
    while not value(samples := scraped(base(service)), "reactor_lag_seconds_count"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [key for key in samples if key[0] == "datamover_build_info"]
    assert samples[("process_resident_memory_bytes", ())] > 0


def test_the_database_goes_away(open_directory: Path) -> None:
    """Without the database a scrape is answered, and says so; the process lives and is not ready; until it is back."""
    (open_directory / "files").mkdir()
    with postgres.running() as own:
        service = Service(open_directory, tables(open_directory, url=own.url))
        service.start()
        try:
            _away_and_back(service, own)
        finally:
            service.stop()


def _away_and_back(service: Service, own: postgres.Postgres) -> None:
    eventually(base(service), "database_up", 1)
    own.stop()
    samples = eventually(base(service), "database_up", 0)
    assert not [key for key in samples if key[0] in ("datamover_queue_pending", "datamover_jobs")]
    assert value(samples, "claims_total") == 0
    assert get(base(service) + "/health/live") == Answer(200, "text/plain; charset=utf-8", "ok\n")
    assert get(base(service) + "/health/ready") == Answer(503, "text/plain; charset=utf-8", "database away\n")
    own.start()
    eventually(base(service), "database_up", 1)
    deadline = time.monotonic() + PATIENCE
    while get(base(service) + "/health/ready").body != "ok\n":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_may_look(open_directory: Path) -> None:
    """With clients, metrics are for administrators and those that are named; health is for everybody."""
    (open_directory / "files").mkdir()
    clients = "".join(
        f"[clients.{name}]\npassword_hash = '{hash_password(name)}'\nadmin = {str(name == 'root').lower()}\n"
        for name in ("root", "prometheus", "portal")
    )
    service = Closed(open_directory, tables(open_directory, f'[monitor]\nclients = ["prometheus"]\n{clients}'))
    service.start()
    try:
        page = base(service) + "/metrics"
        assert [get(page, login=f"{name}:{name}").status for name in ("root", "prometheus", "portal")] == [
            200,
            200,
            403,
        ]
        assert get(page).status == 401
        assert get(page, login="prometheus:wrong").status == 401
        for path in ("/health/live", "/health/ready"):
            assert get(base(service) + path) == Answer(200, "text/plain; charset=utf-8", "ok\n")
    finally:
        service.stop()


def test_public_metrics(open_directory: Path) -> None:
    """[monitor] public shows them to everybody, clients or not."""
    (open_directory / "files").mkdir()
    clients = f"[clients.root]\npassword_hash = '{hash_password('root')}'\nadmin = true\n"
    service = Closed(open_directory, tables(open_directory, f"[monitor]\npublic = true\n{clients}"))
    service.start()
    try:
        assert value(scraped(base(service)), "database_up") == 1
    finally:
        service.stop()


def test_the_gate_stands_before_the_pages(service: Service) -> None:
    """A name that is not ours, another verb and another path are refused."""
    for path in ("/metrics", "/health/live"):
        assert get(base(service) + path, host="evil.example.org").status == 421
        assert get(base(service) + path, method="DELETE").status == 405
        assert get(base(service) + path, method="HEAD").body == ""
        assert get(base(service) + path + "/more").status == 404
    assert get(base(service) + "/health").status == 404
    assert get(base(service) + "/health/other").status == 404


def test_an_engine_alone_is_watched(open_directory: Path) -> None:
    """A process without the interface serves the pages, and them alone, where [monitor] listen says."""
    (open_directory / "files").mkdir()
    port = free_port()
    monitor = f'roles = ["engine"]\n[monitor]\nlisten = "tcp:{port}:interface=127.0.0.1"\n'
    engine = Service(open_directory, tables(open_directory, monitor))
    url = f"http://127.0.0.1:{port}"
    with engine.log.open("wb") as log:
        process = subprocess.Popen(twistd(engine.config), stdout=log, stderr=log, cwd=open_directory)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if get(f"{url}/health/ready").body == "ok\n":
                    break
            except urllib.error.URLError:
                pass
            assert time.monotonic() < deadline, engine.log.read_text()
            time.sleep(0.1)
        samples = eventually(url, "nodes", 1, role="engine")
        assert value(samples, "nodes", role="api") == 0
        with pytest.raises(ProtocolError, match="404"), ServerProxy(f"{url}/data_mover") as client:
            client.system.listMethods()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def logged(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("how", ["configured", "option"])
def test_logs_for_machines(open_directory: Path, how: str) -> None:
    """With [log] format, or twistd's --logger, every line is one JSON object, a transfer's with its ids."""
    (open_directory / "files").mkdir()
    (open_directory / "web").mkdir()
    (open_directory / "web/a.bin").write_bytes(b"x" * 1000)

    def command(config: Path) -> list[str]:
        observer = ["--logger", "datamover.monitor.logs.json_observer"] if how == "option" else []
        return [str(TWISTD), "-n", "--pidfile=", *observer, "datamover", "--config", str(config)]

    log = '[log]\nformat = "json"\n' if how == "configured" else ""
    service = Service(open_directory, tables(open_directory, log), command=command)
    with Nginx(open_directory / "web") as web:
        service.start()
        try:
            request = {"source": f"{web.url}/a.bin?signature=s3cret", "destination": "archive", "path": "a.bin"}
            job = service.proxy.jobs.submit(request)["id"]
            service.ended(job)
        finally:
            service.stop()
    lines = logged(service.log)
    assert {"time", "level", "namespace", "message", "fields"} <= set(lines[0])
    (moved,) = [line for line in lines if str(line["message"]).startswith(f"job {job}: moved")]
    assert (moved["level"], moved["namespace"], moved["job"]) == ("info", "datamover.engine.worker", job)
    assert isinstance(moved["transfer"], int)
    assert "s3cret" not in service.log.read_text()


def test_logs_for_machines_in_a_file(open_directory: Path) -> None:
    """A service in the background writes its lines to --logfile."""
    (open_directory / "files").mkdir()
    service = Service(open_directory, tables(open_directory, '[log]\nformat = "json"\n'))
    pidfile, log = open_directory / "twistd.pid", open_directory / "json.log"
    command = [str(TWISTD), f"--pidfile={pidfile}", f"--logfile={log}", "datamover", "--config", str(service.config)]
    subprocess.run(command, cwd=open_directory, check=True, timeout=PATIENCE)
    pid = int(pidfile.read_text())
    try:
        deadline = time.monotonic() + PATIENCE
        while not log.exists() or "applied migration" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        os.kill(pid, signal.SIGTERM)
        while pidfile.exists():
            assert time.monotonic() < deadline + PATIENCE
            time.sleep(0.1)
    assert any(line["level"] == "info" for line in logged(log))
