"""The key that rows are sealed with, changed for another under a service that runs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from datamover.sealing.keyring import Cipher, KeyFile, KeyRing
from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.service import Service

ADMIN = Path(sys.executable).with_name("datamover-admin")


@pytest.fixture
def web(open_directory: Path) -> Iterator[Nginx]:
    (open_directory / "web").mkdir()
    (open_directory / "web/a.csv").write_bytes(b"a,b\n")
    with Nginx(open_directory / "web") as web:
        yield web


def test_under_a_service_that_runs(open_directory: Path, web: Nginx) -> None:
    """What was sealed before is fetched after it, by the same process and by one started anew; the old key is gone."""
    url = postgres.shared().fresh()
    service = Service(
        open_directory,
        f'[database]\nurl = "{url}"\n[sources]\nallow = ["http://127.0.0.1:*/"]\n'
        f'[destinations.archive]\nurl = "file://{open_directory}/archive"\n',
    )
    service.start()
    try:
        mover = service.proxy
        mover.destinations.hold("archive", "for the test")

        def ask(name: str) -> int:
            request = {"source": f"{web.url}/a.csv?signature=s3cr3t", "destination": "archive", "path": name}
            job: int = mover.jobs.submit(request)["id"]
            return job

        key = open_directory / "data/key"
        before = KeyRing.parse(key.read_bytes())
        early = [ask(f"early{n}") for n in range(3)]
        rotated = subprocess.run(
            [ADMIN, "rotate-key", "--wait", "0.5", "--config", service.config],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert rotated.returncode == 0, rotated.stderr
        assert "4 rows are sealed with the new key" in rotated.stdout
        after = KeyRing.parse(key.read_bytes())
        assert len(after.keys) == 1
        assert after.sealing != before.sealing
        assert key.stat().st_mode & 0o777 == 0o600
        assert rotated.stdout.count(after.sealing.decode()) == 0

        late = ask("late")
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT source_sealed FROM transfers")
            sealed = [bytes(row[0]) for row in cursor.fetchall()]
        connection.close()
        assert len(sealed) == 4
        assert all(Cipher.from_file(key).current(one) for one in sealed)
        mover.destinations.release("archive")
        assert {service.ended(job)["status"] for job in (*early, late)} == {"COMPLETED"}
    finally:
        service.stop()
    service.start()
    try:
        assert service.proxy.jobs.status(late)["status"] == "COMPLETED"
    finally:
        service.stop()


def test_copies_on_several_machines(tmp_path: Path) -> None:
    """At every step what one copy seals another opens, as long as it is no more than a step behind."""
    here, there = tmp_path / "here", tmp_path / "there"
    ring = KeyRing.new()
    one, other = KeyFile(here), KeyFile(there)
    steps = [ring, ring.prepared()]
    steps.append(steps[-1].turned())
    steps.append(KeyRing(steps[-1].sealing))
    for path in (here, there):
        path.write_bytes(steps[0].content())
        path.chmod(0o600)
    for step in steps[1:]:
        _replace(here, step)
        assert other.open(one.seal("text")) == "text"
        assert one.open(other.seal("text")) == "text"
        _replace(there, step)
        assert other.open(one.seal("text")) == "text"
    assert steps[1].prepared() == steps[1]
    assert steps[0].turned() == steps[0]
    assert KeyRing.parse(steps[2].content()) == steps[2]


def _replace(path: Path, ring: KeyRing) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(ring.content())
    fresh.chmod(0o600)
    os.rename(fresh, path)


@pytest.mark.parametrize(
    "content", [b"nonsense", b"", KeyRing.new().content() + b"later abc\n"], ids=["nonsense", "empty", "half of it"]
)
def test_a_file_that_is_broken_while_it_is_used(tmp_path: Path, content: bytes) -> None:
    """What was read goes on being used, until the file is whole again."""
    path = tmp_path / "key"
    key = KeyFile(path)
    sealed = key.seal("text")
    whole = path.read_bytes()
    path.write_bytes(content)
    assert key.open(sealed) == "text"
    path.write_bytes(whole)
    assert key.open(key.seal("more")) == "more"
