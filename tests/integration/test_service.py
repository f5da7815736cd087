"""The whole service, as its operator runs it, and its clients and servers as they are: everything over real sockets."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datamover.config.layout import Layout
from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.service import Service, twistd
from tests.servers.sshd import Sshd

MIB = 2**20


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts(directory: Path) -> list[Path]:
    return list(directory.rglob(".datamover-*"))


@pytest.fixture
def web(open_directory: Path) -> Iterator[Nginx]:
    """nginx over ``directory``."""
    (open_directory / "web").mkdir()
    with Nginx(open_directory / "web") as web:
        yield web


@pytest.fixture
def sshd(open_directory: Path) -> Iterator[Sshd]:
    (open_directory / "ssh").mkdir()
    sshd = Sshd(open_directory / "ssh")
    sshd.start()
    yield sshd
    sshd.stop()


def destinations(directory: Path, sshd: Sshd, more: str = "") -> str:
    return f"""
[destinations.visualiser]
url = "{sshd.url}"
private_key_file = "{sshd.private_key}"
known_hosts_file = "{sshd.known_hosts}"
{more}
[destinations.archive]
url = "file://{directory}/archive"
[sources]
allow = ["http://127.0.0.1:*/"]
[transfers]
retry_base = "100ms"
retry_cap = "500ms"
connect_timeout = "5s"
"""


@pytest.fixture
def database() -> str:
    url = postgres.shared().fresh()
    return f'[database]\nurl = "{url}"\n'


@pytest.fixture
def service(open_directory: Path, sshd: Sshd, database: str) -> Iterator[Service]:
    """The service on a given PostgreSQL, with an SFTP server and a directory as its destinations."""
    service = Service(open_directory, database + destinations(open_directory, sshd))
    service.start()
    yield service
    service.stop()


def test_every_way(service: Service, web: Nginx, sshd: Sshd, open_directory: Path) -> None:
    """Files go from the web to SFTP and to a disk, from SFTP to the disk and to SFTP, and from the disk to SFTP."""
    content = os.urandom(3 * MIB + 5)
    (web.directory / "Zürich.bin").write_bytes(content)
    mover = service.proxy
    ways: list[tuple[Any, str, str]] = [
        (f"{web.url}/Z%C3%BCrich.bin", "visualiser", "from-web/"),
        (f"{web.url}/Z%C3%BCrich.bin", "archive", "from-web/"),
        ({"destination": "visualiser", "path": "from-web/Zürich.bin"}, "archive", "from-ssh/"),
        ({"destination": "visualiser", "path": "from-web/Zürich.bin"}, "visualiser", "from-ssh/"),
        ({"destination": "archive", "path": "from-web/Zürich.bin"}, "visualiser", "from-disk/"),
    ]

    for source, destination, path in ways:
        told = mover.jobs.submit({"source": source, "destination": destination, "path": path})
        ended = service.ended(told["id"])
        assert ended["status"] == "COMPLETED", ended
        root = sshd.root if destination == "visualiser" else open_directory / "archive"
        target = root / path / "Zürich.bin"
        assert target.read_bytes() == content
        assert target.stat().st_mode & 0o777 == 0o644
        assert target.parent.stat().st_mode & 0o777 == 0o755
        (file,) = mover.jobs.files(told["id"])
        assert file["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert file["size"] == float(len(content))
    assert not parts(open_directory)


def test_the_original_s_move(service: Service, web: Nginx, sshd: Sshd) -> None:
    """The original's clients ask and poll as ever."""
    (web.directory / "occurrences.csv").write_bytes(b"lon,lat\n1,2\n")
    told = service.proxy.move(f"{web.url}/occurrences.csv", "scp://visualiser/datasets/")
    assert told == {"id": told["id"], "status": "PENDING"}
    service.ended(told["id"])
    assert service.proxy.checkMoveStatus(told["id"]) == {"id": told["id"], "status": "COMPLETED"}
    assert service.proxy.check_move_status(str(told["id"])) == {"id": told["id"], "status": "COMPLETED"}
    assert (sshd.root / "datasets/occurrences.csv").read_bytes() == b"lon,lat\n1,2\n"


def test_killed_and_started_again(open_directory: Path, web: Nginx, sshd: Sshd, database: str) -> None:
    """What had begun when the service was killed is finished after it is started again, whole, from where it was."""
    content = os.urandom(160 * MIB)
    (web.directory / "big").write_bytes(content)
    limited = destinations(open_directory, sshd, more='bandwidth = "40MB/s"')
    service = Service(open_directory, 'lease = "3s"\n' + database + limited)
    service.start()
    job = service.proxy.jobs.submit({"source": f"{web.url}/big", "destination": "visualiser", "path": "big"})["id"]
    while service.proxy.jobs.status(job)["bytes_done"] < 70 * MIB:
        service.proxy.jobs.wait(job, 0.1)

    service.kill()
    assert not (sshd.root / "big").exists()
    assert parts(sshd.root)
    service.start()
    try:
        ended = service.ended(job)
        events = service.proxy.jobs.events({"job": job})["events"]
    finally:
        service.stop()

    assert ended["status"] == "COMPLETED", ended
    assert (sshd.root / "big").read_bytes() == content
    (resumed,) = [event for event in events if event["kind"] == "resumed"]
    assert resumed["from"] >= 32 * MIB
    assert resumed["resent"] <= 64 * MIB
    assert not parts(sshd.root)


def test_memory(open_directory: Path, web: Nginx, sshd: Sshd) -> None:
    """The memory that a transfer takes does not grow with the file: 256 MiB take hardly more than 1 MiB."""
    peaks = {}
    for size in (1, 256):
        (web.directory / "file").write_bytes(os.urandom(MIB) * size)
        directory = open_directory / str(size)
        directory.mkdir()
        database = f'[database]\nurl = "{postgres.shared().fresh()}"\n'
        service = Service(directory, database + destinations(directory, sshd))
        service.start()
        try:
            mover = service.proxy
            there = mover.jobs.submit({"source": f"{web.url}/file", "destination": "visualiser", "path": f"{size}"})
            ended = service.ended(there["id"])
            assert ended["status"] == "COMPLETED", ended
            source = {"destination": "visualiser", "path": f"{size}"}
            back = mover.jobs.submit({"source": source, "destination": "archive", "path": f"{size}"})
            ended = service.ended(back["id"])
            assert ended["status"] == "COMPLETED", ended
            peaks[size] = service.memory()
        finally:
            service.stop()
        assert sha256(directory / f"archive/{size}") == sha256(web.directory / "file")

    assert peaks[256] < peaks[1] + 64 * MIB


def test_embedded_database(open_directory: Path, web: Nginx, sshd: Sshd) -> None:
    """With no database named the service brings its own, keeps what it is told in it, and leaves nothing running."""
    (web.directory / "f").write_bytes(b"content")
    service = Service(open_directory, destinations(open_directory, sshd))
    service.start()
    job = service.proxy.jobs.submit({"source": f"{web.url}/f", "destination": "archive", "path": "f"})["id"]
    assert service.ended(job)["status"] == "COMPLETED"
    service.stop()
    service.start()
    told = service.proxy.jobs.status(job)
    service.stop()

    assert told["status"] == "COMPLETED"
    running = subprocess.run(["pgrep", "-af", str(open_directory)], capture_output=True, text=True, check=False)
    assert f"{open_directory}/data" not in running.stdout


def test_another_key(open_directory: Path, sshd: Sshd, database: str) -> None:
    """A service whose key is not the one that its rows are sealed with says so and ends, with status 1."""
    service = Service(open_directory, database + destinations(open_directory, sshd))
    service.start()
    service.stop()
    key = open_directory / "data/key"
    key.unlink()
    with service.log.open("ab") as log:
        ended = subprocess.run(twistd(service.config), stdout=log, stderr=log, timeout=60, check=False)

    assert ended.returncode == 1
    assert f"{key} is not the key that the database's rows were sealed with" in service.log.read_text()


def test_port_in_use(open_directory: Path, database: str) -> None:
    """A service that cannot listen where it should says so in a sentence and ends, with status 1."""
    service = Service(open_directory, database)
    with socket.create_server(("127.0.0.1", service.port)):
        ended = subprocess.run(twistd(service.config), capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    told = f"'tcp:{service.port}:interface=127.0.0.1' cannot be listened on: Address already in use"
    assert told in ended.stdout
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize("way", ["tac", "twist"])
def test_other_ways_to_run(open_directory: Path, sshd: Sshd, database: str, way: str) -> None:
    """It also runs from datamover.tac and by twist."""
    bin_directory = Path(sys.executable).parent
    tac = Path(__file__).parents[2] / "datamover.tac"
    commands = {
        "tac": [str(bin_directory / "twistd"), "-n", "--pidfile=", "-y", str(tac)],
        "twist": [str(bin_directory / "twist"), "datamover", "--config", str(open_directory / "datamover.toml")],
    }
    tables = database + destinations(open_directory, sshd)
    service = Service(open_directory, tables, command=lambda _: commands[way])
    service.start({"DATAMOVER_CONFIG": str(service.config)})
    assert service.proxy.service.status()["ready"]
    service.stop()


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ("max_actve = 3", "service.max_actve: unknown key"),
        ("[destinations.x]\nurl = 'gopher://h/x'", "destinations.x.url = 'gopher://h/x': expected a URL with one of"),
        ("[transfers]\nidle_timeout = 'soon'", "transfers.idle_timeout = 'soon': expected a time such as"),
        ("[sources]\nallow = ['ftp://x/']", "sources.allow.0 = 'ftp://x/': expected a rule such as"),
        ("[http]\nca_file = '/nowhere.pem'", "http.ca_file = '/nowhere.pem': expected a readable file"),
        ("[destinations.x]\nurl = 'file:///'", "destinations.x.url = 'file:///': holds "),
    ],
)
def test_bad_configuration(tmp_path: Path, tables: str, line: str) -> None:
    """A configuration that cannot be used stops the start with one line that says what is wrong where."""
    config = tmp_path / "datamover.toml"
    config.write_text(f"[service]\ndata_directory = '{tmp_path}/data'\n{tables}\n")
    ended = subprocess.run(twistd(config), capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith(f"datamover: {config}: {line}")


def test_what_is_made_in_the_data_directory(open_directory: Path) -> None:
    """Everything has a name that no destination in it may have."""
    console = f'[console]\nssh = "tcp:{free_port()}:interface=127.0.0.1"\nauthorized_keys_file = "/nowhere"\n'
    service = Service(open_directory, console)
    service.start()
    made = set(os.listdir(open_directory / "data"))
    service.stop()
    made |= set(os.listdir(open_directory / "data"))
    assert {
        "postgresql",
        "postgresql-start.lock",
        "postgresql-users.lock",
        "staging",
        "key",
        "console_host_key",
    } <= made
    assert [name for name in made if not Layout.keeps(name)] == []


def test_impatient_end(open_directory: Path) -> None:
    """Whoever asks for the end more than once is told that it comes; it comes as if asked for once."""
    service = Service(open_directory, "")
    service.start()
    status = service.stop_impatiently()
    log = service.log.read_text()
    assert "the service is stopping already" in log
    assert "Traceback" not in log
    assert log.rstrip().endswith("Server Shut Down.")
    assert status == -signal.SIGTERM
