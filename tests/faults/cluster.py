"""Several processes of datamover on one database, with their servers; and the ways to break them.

One door, any number of engines; nginx to read from, sshd and a directory to write to and to read from. What is asked of
them, and what must hold at the end, is ``work``'s.
"""

import itertools
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xmlrpc.client import Fault

import psycopg2

from tests.faults import process
from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.path import Path as TcpPath
from tests.servers.service import Command, Service
from tests.servers.sshd import Sshd
from tests.waiting import wait_until

PATIENCE = 90.0
"""Seconds within which what is waited for must come, on a machine that has much else to do."""
TABLES = ("jobs", "transfers", "sides", "changes", "nodes", "events")
"""What is kept of a database when a test fails."""
UNAVAILABLE = 1012
BANDWIDTH = "15MB/s"
"""Of each destination: so that big files are caught on their way. Each place has two names, so two of them."""

"""Returns what runs a process, given its configuration file."""

_TABLES = """\
roles = ["{role}"]
key_file = "{directory}/key"
lease = "{lease}"
[database]
url = "{database}"
{places}
[destinations.small]
url = "file://{directory}/small"
[sources]
allow = ["http://127.0.0.1:*/"]
[transfers]
max_attempts = 100
retry_base = "100ms"
retry_cap = "{retry_cap}"
connect_timeout = "5s"
"""

_PLACES = """\
[destinations.visualiser{mark}]
url = "{sshd.url}"
private_key_file = "{sshd.private_key}"
known_hosts_file = "{sshd.known_hosts}"
bandwidth = "{bandwidth}"
[destinations.archive{mark}]
url = "file://{directory}/archive"
bandwidth = "{bandwidth}"
"""


class Engine(Service):
    """A process that only moves; it has no door to be asked at."""

    environment: Mapping[str, str] = MappingProxyType({})
    """What it finds there beside what this process has."""

    def start(self, environment: Any = None) -> None:
        """Start; ``Cluster.engine`` waits until it works."""
        self.launch({**self.environment, **(environment or {})})

    @property
    def returncode(self) -> int | None:
        """Of a process that ended by itself."""
        return self._process.poll() if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self.returncode is None

    @property
    def stalled(self) -> bool:
        """Whether it was stopped, by whomever."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def stall(self) -> None:
        """Have it stand still, as on a machine that is suspended."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def lost(self, why: str = "") -> set[str]:
        """Return the transfers that it says it has lost the leases of, at least once; those lost ``why``."""
        return set(re.findall(rf"lost the lease on transfer (\d+) of job \d+: .*{why}", self.log.read_text()))

    def drain(self) -> None:
        """Ask it to end, and do not wait."""
        os.kill(self.pid, signal.SIGTERM)


class Cluster:
    """One door and no engine, to begin with, in ``directory``, which other users may enter."""

    def __init__(
        self,
        directory: Path,
        *,
        lease: str = "3s",
        bandwidth: str = BANDWIDTH,
        retry_cap: str = "500ms",
        ssh: str = "",
        tables: str = "",
        command: Command | None = None,
        databases: postgres.TestDatabases | None = None,
        path: TcpPath | None = None,
    ) -> None:
        """``tables`` stand at the end of every configuration, ``ssh`` at the beginning of sshd's;
        ``command`` runs every process, instead of twistd. The database is a new one of ``databases``; the processes
        reach it over ``path``.
        """
        self.directory = directory
        self.archive = directory / "archive"
        self.small = directory / "small"
        (directory / "web").mkdir()
        (directory / "ssh").mkdir()
        self.archive.mkdir()
        self.small.mkdir()
        self.web = Nginx(directory / "web")
        self.sshd = Sshd(directory / "ssh", config=ssh)
        databases = databases or postgres.shared()
        self.database = databases.server
        self.url = databases.fresh()
        self.name = self.url.rpartition("/")[2]
        """The database's."""
        if path is not None:
            self.url = self.url.replace(f":{self.database.port}/", f":{path.port}/")
        self.engines: list[Engine] = []
        self._gate = directory / "gate"
        self._homes = itertools.count(1)
        self.numbers = itertools.count(1)
        """For what must not be called the same."""
        self._lease = lease
        self._bandwidth = bandwidth
        self._retry_cap = retry_cap
        self._more = tables
        self._command = command
        self.door = Service(self._home("door"), self._tables("api"), command=command)

    def start(self) -> None:
        self.web.start()
        self.sshd.start()
        self.door.start()

    def stop(self) -> None:
        for engine in self.engines:
            engine.kill()
        self.door.stop()
        self.sshd.stop()
        self.web.stop()

    @property
    def mover(self) -> Any:
        return self.door.proxy

    def engine(
        self,
        *,
        command: Command | None = None,
        environment: Mapping[str, str] | None = None,
        lease: str | None = None,
        wait: bool = True,
    ) -> Engine:
        """Start one more engine, and return it once it works, or (``wait``: false) at once.

        Unless it is run by a ``command``, its transfers pass through the gate.
        """
        command = command or self._command or process.command(gate=self._gate)
        home = self._home(f"engine-{next(self._homes)}")
        engine = Engine(home, self._tables("engine", lease), command=command)
        engine.environment = environment or {}
        self.engines.append(engine)
        if wait:
            self.start_engine(engine)
        else:
            engine.start()
        return engine

    def another_door(self, command: Command) -> Service:
        """Start one more process that is asked, and return it when it is ready; it is the caller's to stop."""
        door = Service(self._home(f"door-{next(self._homes)}"), self._tables("api"), command=command)
        door.start()
        return door

    def start_engine(self, engine: Engine) -> None:
        """Start an engine, and return once others know of it or it has ended by itself."""
        engine.start()
        wait_until(
            lambda: engine.returncode is not None or engine.pid in self.nodes(),
            f"{engine.directory.name} at work: {engine.log.read_text()[-3000:]}",
        )

    def gate(self, done: int) -> None:
        """Let every transfer come so far, and no further."""
        new = self._gate.with_suffix(".new")
        new.write_text(str(done))
        new.rename(self._gate)

    def open_gate(self) -> None:
        """Let every transfer go on to its end."""
        self._gate.unlink(missing_ok=True)

    def cleared(self) -> bool:
        """End the engines and remove the files; tell whether nothing else of what was done is left."""
        for engine in self.engines:
            engine.kill()
        self.engines = []
        self.open_gate()
        if self.parts() or self.sql("SELECT id FROM jobs WHERE finished_at IS NULL"):
            return False
        # Hundreds of megabytes, which the disk would have to take before the tests are over.
        for place in (self.web.directory, self.sshd.root, self.archive, self.small):
            for left in place.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        return True

    def nodes(self) -> list[int]:
        """Return the processes that the door knows as engines."""
        told = self.ask(lambda: self.mover.service.status())
        names = [node["name"] for node in told["nodes"]] if told else []
        return [int(name.rpartition(":")[2]) for name in names if name.startswith(f"{socket.gethostname()}:")]

    def ask(self, call: Callable[[], Any]) -> Any:
        """Call; None while the database is away."""
        try:
            return call()
        except Fault as fault:
            if fault.faultCode != UNAVAILABLE:
                raise
            return None

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.database.run(statement, database=self.name)

    def cut_database(self) -> None:
        """End every connection to the database."""
        self.database.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def parts(self) -> list[Path]:
        """Return the part files that stand anywhere but in staging directories, of which ``staged`` tells."""
        return [path for path in self.directory.rglob(".datamover-*") if "staging" not in path.parts]

    def staged(self) -> list[Path]:
        """Return what stands in the staging directories of engines that live: the dead are swept by who comes after."""
        return [path for engine in self.engines if engine.alive for path in engine.directory.glob("data/staging/*/*")]

    def keep(self) -> str:
        """Keep every process's log, and the tables, in a new directory; return the sentence that names it."""
        kept = Path(tempfile.mkdtemp(prefix="datamover-failed-"))
        for one in (self.door, *self.engines):
            if one.log.exists():
                shutil.copy(one.log, kept / f"{one.directory.name}.log")
        told = f"the cluster's logs and tables are in {kept}"
        try:
            with (
                closing(psycopg2.connect(self.database.database_url(self.name))) as session,
                session.cursor() as cursor,
            ):
                for table in TABLES:
                    with (kept / f"{table}.csv").open("w") as file:
                        cursor.copy_expert(
                            f"COPY (SELECT * FROM {table} ORDER BY 1) TO STDOUT (FORMAT csv, HEADER)", file
                        )
        except psycopg2.Error as error:
            told += f"; of the tables this is missing: {error}"
        return told

    def _home(self, name: str) -> Path:
        home = self.directory / name
        home.mkdir()
        return home

    def _tables(self, role: str, lease: str | None = None) -> str:
        places = [
            _PLACES.format(mark=mark, directory=self.directory, sshd=self.sshd, bandwidth=self._bandwidth)
            for mark in ("", "-too")
        ]
        tables = _TABLES.format(
            role=role,
            directory=self.directory,
            lease=lease or self._lease,
            database=self.url,
            places="".join(places),
            retry_cap=self._retry_cap,
        )
        return f"{tables}{self._more}"


@contextmanager
def running(directory: Path, **settings: Any) -> Iterator[Cluster]:
    """Have a cluster, gone afterwards; where the block fails, its error names what is kept of it."""
    cluster = Cluster(directory, **settings)
    try:
        cluster.start()
        yield cluster
    except BaseException as error:
        error.add_note(cluster.keep())
        raise
    finally:
        cluster.stop()
