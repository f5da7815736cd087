"""Backups of the database: what pg_dump writes while the service runs, and pg_restore reads into an empty one.

The embedded server's are the programs that come with it; for a given database they are those of ``$PATH``. The key
is not in a backup: with both in one place, sealing the rows would be for nothing.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any

from psycopg2.extensions import make_dsn, parse_dsn

from datamover.errors import ConfigError, StartError
from datamover.postgres.database import Cursor, Database
from datamover.postgres.embedded.cluster import Programs
from datamover.postgres.named_queries import NamedQueries

_MAGIC = b"PGDMP"
"""What pg_dump's custom format begins with."""


@dataclass(frozen=True, slots=True)
class Tools:
    """pg_dump and pg_restore, for one database. Everything here blocks."""

    binaries: Path | None
    """None: those that ``$PATH`` leads to."""
    process: dict[str, Any]
    """What ``subprocess`` is told of the user and the environment."""
    dsn: str
    """Without the password."""

    @classmethod
    def embedded(cls, programs: Programs, dsn: str) -> "Tools":
        return cls(programs.binaries, programs.user.process(), dsn)

    @classmethod
    def given(cls, dsn: str) -> "Tools":
        parameters = parse_dsn(dsn)
        secret = {"PGPASSWORD": parameters.pop("password")} if "password" in parameters else {}
        process = {"env": {**os.environ, **secret}, "stdin": subprocess.DEVNULL}
        return cls(None, process, str(make_dsn(**parameters)))

    def dump(self, path: Path) -> int:
        """Write a backup and return its size in bytes: the whole file, closed to others, or none.

        Raises ConfigError for a file that cannot be made or is there already, StartError for what pg_dump says.
        """
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", stdout=file)
                    os.fsync(file.fileno())
                    size = file.seek(0, os.SEEK_END)
                os.link(temporary, path)  # which never replaces what is there
            finally:
                os.unlink(temporary)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}: expected the name of a new file") from None
        return size

    def load(self, file: FileIO) -> None:
        """Read a backup into the database, all of it or nothing. Raises StartError."""
        self._run("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", stdin=file)

    def _run(self, program: str, *arguments: str, **ends: IO[bytes]) -> None:
        found = self.binaries / program if self.binaries else shutil.which(program)
        if found is None:
            raise StartError(f"there is no {program}: install the client programs of the server's PostgreSQL version")
        done = subprocess.run(  # noqa: S603
            [found, *arguments, "--dbname", self.dsn],
            **{**self.process, "stdout": subprocess.DEVNULL, **ends},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise StartError(f"{program} failed: {'; '.join(said[-2:]) or f'exit status {done.returncode}'}")


def opened(path: Path) -> FileIO:
    """Return a backup, opened; raises ConfigError for what is none."""
    try:
        file = path.open("rb", buffering=0)  # another program reads on from where we are
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a backup") from None
    if file.read(len(_MAGIC)) != _MAGIC:
        file.close()
        raise ConfigError(f"{path}: expected a file that `datamover-admin backup` has written")
    file.seek(0)
    return file


async def is_empty(database: Database) -> bool:
    """Tell whether nothing has been made in the database. Raises Unavailable."""
    queries = NamedQueries.load()

    async def look(cursor: Cursor) -> bool:
        return await cursor.fetch_one(queries["find_relation"]) is None

    return await database.transaction(look)


async def renumber(database: Database) -> None:
    """Begin further on with the numbers that clients are given: some were given out after the backup was made.

    Raises Unavailable.
    """
    queries = NamedQueries.load()
    await database.transaction(lambda cursor: cursor.execute(queries["skip_numbers"]))
