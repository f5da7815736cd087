"""datamover-admin backup and restore: what is kept of an installation, and that it goes on from there."""

import contextlib
import shutil
import stat
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography.fernet import Fernet

from datamover.postgres.embedded.cluster import Cluster
from tests.integration.test_admin import admin
from tests.servers.postgres import running, shared
from tests.servers.service import Service

SIGNATURE = "sig=s3cret"


class Signed(BaseHTTPRequestHandler):
    """Serves five bytes to whoever has the signature."""

    def do_GET(self) -> None:
        allowed = self.path.endswith(f"?{SIGNATURE}")
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", "5" if allowed else "0")
        self.end_headers()
        self.wfile.write(b"hello" if allowed else b"")

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Signed) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Installation(Service):
    """A service with everything but its files below ``directory``."""

    def __init__(self, directory: Path, files: Path, database: str | None = None) -> None:
        self.key = directory / "data/key"
        self.key.parent.mkdir(parents=True)
        files.mkdir(exist_ok=True)
        tables = f'[destinations.local]\nurl = "file://{files}"\n[sources]\nallow = ["http://127.0.0.1:*/"]\n'
        super().__init__(directory, (f'[database]\nurl = "{database}"\n' if database else "") + tables)


def write_key(service: Installation) -> None:
    service.key.write_bytes(Fernet.generate_key())
    service.key.chmod(0o600)


@contextlib.contextmanager
def started(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.stop()


def assert_another_key(done: "subprocess.CompletedProcess[str]", service: Installation, dump: Path) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"datamover-admin: service.key_file: {service.key} is not the key that the rows in {dump} are sealed with: put "
        "the key from the time of the backup there, and run this again; nothing was restored\n"
    )


def test_backup_and_restore(open_directory: Path, web: str) -> None:
    """A backup of a running service, restored elsewhere with its key, has the history and goes on with the work."""
    files, dump = open_directory / "files", open_directory / "backup"
    old, new = (Installation(open_directory / name, files) for name in ("old", "new"))
    with started(old):
        done = old.proxy.jobs.submit({"source": f"{web}/a?{SIGNATURE}", "destination": "local", "path": "a"})["id"]
        assert old.ended(done)["status"] == "COMPLETED"
        old.proxy.destinations.hold("local", "moving house")
        waiting = old.proxy.jobs.submit({"source": f"{web}/b?{SIGNATURE}", "destination": "local", "path": "b"})["id"]
        told = admin("backup", "--config", str(old.config), str(dump))
        assert (told.returncode, told.stderr) == (0, "")
        assert str(open_directory / "old/data/key") in told.stdout
        assert stat.S_IMODE(dump.stat().st_mode) == 0o600
        history = old.proxy.jobs.events({})["events"]
        assert [event["job"] for event in history if event["kind"] == "submitted"] == [done, waiting]
        cursor = old.proxy.jobs.events({})["cursor"]
        again = admin("backup", "--config", str(old.config), str(dump))
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert "File exists" in again.stderr
        assert old.proxy.service.status()["ready"] is True
    assert SIGNATURE.encode() not in dump.read_bytes()

    arguments = ("restore", "--config", str(new.config), str(dump))
    refused = admin(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "first put the key there" in refused.stderr
    write_key(new)
    assert_another_key(admin(*arguments), new, dump)
    new.key.unlink()
    shutil.copy(old.key, new.key)
    restored = admin(*arguments)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert Cluster(open_directory / "new/data").server() is None
    again = admin(*arguments)
    assert again.returncode == 1
    assert "the database is not empty" in again.stderr

    with started(new):
        assert new.proxy.jobs.status(done)["status"] == "COMPLETED"
        assert new.proxy.jobs.events({})["events"] == history
        new.proxy.destinations.release("local")
        assert new.ended(waiting)["status"] == "COMPLETED"
        assert (files / "b").read_bytes() == b"hello"
        source = {"destination": "local", "path": "a"}
        fresh = new.proxy.jobs.submit({"source": source, "destination": "local", "path": "c"})["id"]
        assert fresh > waiting + 1000, "ids that were given out after the backup mean no other job"
        assert new.ended(fresh)["status"] == "COMPLETED"
        later = new.proxy.jobs.events({"after": cursor})["events"]
        assert {event["job"] for event in later} == {waiting, fresh}


def test_given(tmp_path: Path) -> None:
    """A database that is given is dumped and restored by the programs that $PATH leads to.

    Another key is refused before anything is restored, so that the same command works with the right one.
    """
    old, new = (Installation(tmp_path / name, tmp_path / "files", shared().fresh()) for name in ("old", "new"))
    with started(old):
        job = old.proxy.jobs.submit(
            {"source": f"http://127.0.0.1:1/a?{SIGNATURE}", "destination": "local", "path": "a"}
        )
        told = admin("backup", "--config", str(old.config), str(tmp_path / "dump"))
        assert (told.returncode, told.stderr) == (0, "")
    write_key(new)
    restore = ("restore", "--config", str(new.config), str(tmp_path / "dump"))
    assert_another_key(admin(*restore), new, tmp_path / "dump")
    shutil.copy(old.key, new.key)
    restored = admin(*restore)
    assert (restored.returncode, restored.stderr) == (0, "")
    with started(new):
        assert new.proxy.jobs.status(job["id"])["id"] == job["id"]


def test_another_server_s_history(tmp_path: Path) -> None:
    """What pg_dump took from a server with a longer life is told at once by one with a shorter."""
    with running() as aged:
        # As many transactions as a year's work leaves behind, in a moment.
        aged.stop()
        aged.reset(transactions=50_000_000)
        aged.start()
        old = Installation(tmp_path / "old", tmp_path / "files", aged.url)
        with started(old):
            source = {"destination": "local", "path": "none"}
            job = old.proxy.jobs.submit({"source": source, "destination": "local", "path": "a"})["id"]
            old.ended(job)
            history = old.proxy.jobs.events({})["events"]
            assert history
        assert admin("backup", "--config", str(old.config), str(tmp_path / "dump")).returncode == 0
    new = Installation(tmp_path / "new", tmp_path / "files", shared().fresh())
    shutil.copy(old.key, new.key)
    assert admin("restore", "--config", str(new.config), str(tmp_path / "dump")).returncode == 0
    with started(new):
        assert new.proxy.jobs.events({})["events"] == history


def test_refused(tmp_path: Path) -> None:
    """What is no backup, or half of one, and a place that cannot be written, are told in a sentence each."""
    service = Installation(tmp_path / "here", tmp_path / "files", shared().fresh())
    config, dump = str(service.config), tmp_path / "backup"
    nowhere = admin("backup", "--config", config, str(tmp_path / "none/backup"))
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert nowhere.stderr.endswith("expected the name of a new file\n")
    assert admin("backup", "--config", config, str(dump)).returncode == 0
    write_key(service)
    absent = admin("restore", "--config", config, str(tmp_path / "none"))
    assert absent.stderr == f"datamover-admin: {tmp_path}/none: No such file or directory: expected a backup\n"
    other = admin("restore", "--config", config, config)
    assert "that `datamover-admin backup` has written" in other.stderr
    dump.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])
    half = admin("restore", "--config", config, str(dump))
    assert (half.returncode, half.stdout) == (1, "")
    assert half.stderr.startswith("datamover-admin: pg_restore failed: ")
