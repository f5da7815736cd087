"""A real PostgreSQL from Debian's packages, on a free port, and databases in it, copied quickly from a template."""

import atexit
import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg2

from datamover.postgres.database import Database
from datamover.postgres.migrate import migrate
from tests.servers import memory
from tests.servers.ports import free_port

PATIENCE = 60.0
"""Seconds within which the server starts or stops."""


def binaries() -> Path:
    """Return the directory of the newest installed PostgreSQL's programs."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    return Path(found[-1])


def server_user() -> dict[str, Any]:
    """Return the arguments with which ``subprocess`` runs as a user other than root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """One cluster in ``directory``, which the server's user must be able to enter.

    ``url`` is of the superuser ``postgres``, over TCP, without a password: the cluster is local and temporary.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
        *,
        standby_of: "Postgres | None" = None,
        durable: bool = False,
    ) -> None:
        """``environment`` is added to this process's environment.

        With ``standby_of`` it is a copy of that running cluster, and follows it. With ``durable`` it flushes; else its
        data survives a crash of the server, not of the machine.
        """
        self._durable = durable
        self._environment = environment
        self.directory = directory / "cluster"
        self.sockets = directory / "sockets"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for made in (self.directory, self.sockets):
            made.mkdir(mode=0o700 if made == self.directory else 0o777)
            if "user" in server_user():
                os.chown(made, server_user()["user"], server_user()["group"])
        if standby_of is None:
            subprocess.run(["cp", "--archive", f"{_template()}/.", str(self.directory)], check=True, **server_user())
        else:
            _run(
                "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D", str(self.directory),
                "-d", f"host=127.0.0.1 port={standby_of.port} user=postgres application_name=standby",
            )  # fmt: skip

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """Return the superuser's URL of one database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start and wait until it answers."""
        fsync = "on" if self._durable else "off"
        self.process = subprocess.Popen(
            [
                str(binaries() / "postgres"), "-D", str(self.directory), "-h", "127.0.0.1", "-p", str(self.port),
                "-k", str(self.sockets), "-c", f"fsync={fsync}", "-c", "max_connections=200",
                "-c", "log_min_messages=fatal",
                "-c", "dynamic_shared_memory_type=mmap",  # What is left of it goes with the directory.
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            env={**os.environ, **self._environment}, **server_user(),
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg2.connect(self.url).close()
            except psycopg2.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it in mode "fast", which ends sessions at once."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it and everything it started, as a crash would."""
        self._end(signal.SIGQUIT)

    def processes(self) -> list[int]:
        """Return the server's process and all its descendants."""
        assert self.process is not None
        found = [self.process.pid]
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # It has ended meanwhile.
                if int(status.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    found.append(int(status.parent.name))
        return found

    def freeze(self) -> None:
        """Suspend all its processes: the system accepts connections, and nothing answers."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def destroy(self) -> None:
        """Kill all its processes at once, as when its machine loses power."""
        self.freeze()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def wait_for_standby(self) -> None:
        """Make each commit wait from now on until a standby has it too."""
        self.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.run("SELECT pg_reload_conf()")
        self.until("SELECT sync_state FROM pg_stat_replication", [("sync",)])

    def promote(self) -> None:
        """Promote a standby to primary."""
        assert self.run("SELECT pg_promote()") == [(True,)]

    def reset(self, *, transactions: int) -> None:
        """Set the stopped server's next transaction id."""
        # pg_resetwal does not make the commit-status file that this id falls into.
        page = self.directory / "pg_xact" / f"{transactions // (32 * 8192 * 4):04X}"
        page.write_bytes(bytes(256 * 1024))
        os.chown(page, self.directory.stat().st_uid, self.directory.stat().st_gid)
        _run("pg_resetwal", "-x", str(transactions), "-D", str(self.directory))

    def configure_logins(self, lines: str) -> None:
        """Replace the lines of pg_hba.conf, and load them."""
        (self.directory / "pg_hba.conf").write_text(lines)
        self.run("SELECT pg_reload_conf()")
        time.sleep(0.2)  # The server reads it after the signal.

    def until(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Wait until a statement returns these rows."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.run(sql)) != rows:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def restart(self) -> None:
        self.stop()
        self.start()

    def run(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, outside any transaction, blocking."""
        connection = psycopg2.connect(self.database_url(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None


def _run(program: str, *arguments: str) -> None:
    subprocess.run([str(binaries() / program), *arguments], check=True, capture_output=True, cwd="/", **server_user())


class TestDatabases:
    """New databases in one cluster, copied from ``template`` if one is named."""

    __test__ = False

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._migrated = False
        self.made: list[str] = []
        ((version,),) = server.run("SELECT current_setting('server_version_num')::integer")
        self._quickly = " STRATEGY file_copy" if version >= 150000 else ""  # The only one there was before.

    def fresh(self, template: str = "template1") -> str:
        """Return the URL of a new database, a copy of ``template``."""
        name = f"test_{next(self._numbers)}"
        self.server.run(f"CREATE DATABASE {name} TEMPLATE {template}{self._quickly}")
        self.made.append(name)
        return self.server.database_url(name)

    def keep(self) -> None:
        """Keep the databases made so far until the server is stopped."""
        self.made.clear()

    async def migrated(self, reactor: Any) -> str:
        """Return the URL of a new database with datamover's tables, which are created once and then copied."""
        if not self._migrated:
            self.server.run("CREATE DATABASE migrated")
            database = Database(reactor, address(self.server.database_url("migrated")), 1)
            try:
                await database.open()
                await migrate(database)
            finally:
                await database.close()
            self._wait_until_unused("migrated")
            self._migrated = True
        return self.fresh("migrated")

    def _wait_until_unused(self, name: str) -> None:
        """Wait until nobody is connected to a database, as copying it needs; sessions outlive their sockets."""
        deadline = time.monotonic() + PATIENCE
        while self.server.run(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}'"):
            assert time.monotonic() < deadline, f"somebody stays connected to {name}"
            time.sleep(0.01)


def address(url: str) -> Callable[[], Awaitable[str]]:
    """Return the callable from which ``Database`` gets its server's address."""

    async def tell() -> str:
        return url

    return tell


@contextmanager
def running(
    disk: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    durable: bool = False,
    below: Path | None = None,
) -> Iterator[Postgres]:
    """Run a server in a temporary directory ``below`` another; root may put it on a ``disk`` of that size ("64m")."""
    directory = Path(tempfile.mkdtemp(prefix=memory.prefix("postgres"), dir=below))
    if disk is not None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(directory)], check=True)
    directory.chmod(0o755)
    try:
        server = Postgres(directory, environment, durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.kill()  # Its data is deleted: it need not shut down cleanly.
    finally:
        if disk is not None:
            subprocess.run(["umount", "-l", str(directory)], check=True)
        shutil.rmtree(directory)


@contextmanager
def transaction(url: str, *statements: str) -> Iterator[Any]:
    """Open a session whose transaction has run ``statements`` and stays open; yield its cursor.

    At the end of the block the transaction is rolled back.
    """
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            yield cursor
        with suppress(psycopg2.OperationalError):  # The server may have ended its session.
            connection.rollback()  # Closing rolls back too, but a moment later.
    finally:
        connection.close()


@contextmanager
def replicated(*, durable: bool = False) -> Iterator[tuple[Postgres, Postgres]]:
    """Run a server with a synchronous standby."""
    directory = Path(tempfile.mkdtemp(prefix="datamover-postgres-"))
    directory.chmod(0o755)
    with running(durable=durable) as primary:
        try:
            standby = Postgres(directory, standby_of=primary, durable=durable)
            try:
                standby.start()
                primary.wait_for_standby()
                yield primary, standby
            finally:
                standby.kill()
        finally:
            shutil.rmtree(directory)


_shared = ExitStack()


@cache
def _template() -> Path:
    """Return a new cluster that all others are copies of: making one takes eight times as long."""
    atexit.register(stop_shared)
    directory = Path(_shared.enter_context(tempfile.TemporaryDirectory(prefix="datamover-postgres-")))
    directory.chmod(0o777)
    _run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", f"{directory}/made")
    return directory / "made"


@cache
def shared() -> TestDatabases:
    """Return databases in the server that this process shares; it is started at first use and stopped at the end."""
    return TestDatabases(_shared.enter_context(running(below=memory.place("postgres"))))


@contextmanager
def dropped() -> Iterator[None]:
    """Drop the databases that are made in the block on the shared server, whoever is connected to them."""
    before = len(shared().made) if shared.cache_info().currsize else 0
    yield
    while shared.cache_info().currsize and len(shared().made) > before:
        shared().server.run(f"DROP DATABASE IF EXISTS {shared().made.pop()} WITH (FORCE)")


def stop_shared() -> None:
    """Stop the shared server now, if it runs, and remove what was made for all."""
    _shared.close()
    shared.cache_clear()
    _template.cache_clear()
