"""Backups of the database: pg_dump writes one while the service runs, pg_restore reads it into an empty database.

For the embedded server these are the programs that come with it, for an external one those of ``$PATH``. A backup does
not contain the key: whoever has the backup must not be able to read the sealed values.
"""

import os
import re
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
from datamover.postgres.named_queries import QUERIES

_MAGIC = b"PGDMP"
"""The first bytes of pg_dump's custom format."""
_INSTALLATION = re.compile(r"^COPY \S*installation \((.*)\) FROM stdin;\n(.*)$", re.MULTILINE)
"""What pg_restore writes of the table ``installation``: its columns, and its row."""
_BYTES = r"\\x"
"""How COPY begins a bytea (PostgreSQL's documentation, "COPY", text format)."""


@dataclass(frozen=True, slots=True)
class BackupTools:
    """pg_dump and pg_restore, for one database. Every method blocks."""

    binaries: Path | None
    """The directory of the programs; None: they are found in ``$PATH``."""
    process: dict[str, Any]
    """The arguments for ``subprocess`` that set the user and the environment."""
    dsn: str
    """The connection string, without the password."""

    @classmethod
    def embedded(cls, programs: Programs, dsn: str) -> "BackupTools":
        return cls(programs.binaries, programs.user.process(), dsn)

    @classmethod
    def given(cls, dsn: str) -> "BackupTools":
        parameters = parse_dsn(dsn)
        secret = {"PGPASSWORD": parameters.pop("password")} if "password" in parameters else {}
        process = {"env": {**os.environ, **secret}, "stdin": subprocess.DEVNULL}
        return cls(None, process, str(make_dsn(**parameters)))

    def dump(self, path: Path) -> int:
        """Write a backup and return its size in bytes. The file is written whole or not at all, and closed to others.

        Raises ConfigError for a file that cannot be made or exists already, StartError with pg_dump's message.
        """
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    self._run("pg_dump", "--format=custom", *self._common, stdout=file)
                    os.fsync(file.fileno())
                    size = file.seek(0, os.SEEK_END)
                os.link(temporary, path)  # A link never replaces an existing file.
            finally:
                os.unlink(temporary)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}: expected the name of a new file") from None
        return size

    def load(self, file: FileIO) -> None:
        """Read a backup into the database, in one transaction. Raises StartError with pg_restore's message."""
        file.seek(0)
        self._run("pg_restore", "--single-transaction", "--exit-on-error", *self._common, stdin=file)

    def proof(self, file: FileIO) -> bytes | None:
        """Return the proof of the key in a backup, None if it has none; nothing is restored.

        Raises StartError with pg_restore's message.
        """
        file.seek(0)
        text = self._run(
            "pg_restore", "--data-only", "--table=installation", "--file=-", stdin=file, stdout=subprocess.PIPE
        )
        if (found := _INSTALLATION.search(text)) is None:
            return None
        proof = dict(zip(found[1].split(", "), found[2].split("\t"), strict=True))["proof"]
        return bytes.fromhex(proof.removeprefix(_BYTES)) if proof.startswith(_BYTES) else None

    @property
    def _common(self) -> tuple[str, ...]:
        return ("--no-owner", "--no-privileges", "--dbname", self.dsn)

    def _run(self, program: str, *arguments: str, **ends: IO[bytes] | int) -> str:
        """Run a program; return what it writes to a pipe."""
        found = self.binaries / program if self.binaries else shutil.which(program)
        if found is None:
            raise StartError(f"there is no {program}: install the client programs of the server's PostgreSQL version")
        done = subprocess.run(  # noqa: S603
            [found, *arguments],
            **{**self.process, "stdout": subprocess.DEVNULL, **ends},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise StartError(f"{program} failed: {'; '.join(said[-2:]) or f'exit status {done.returncode}'}")
        return done.stdout or ""


def opened(path: Path) -> FileIO:
    """Open a backup; raises ConfigError for a file that is none."""
    try:
        file = path.open("rb", buffering=0)  # Another program reads on from the current position.
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a backup") from None
    if file.read(len(_MAGIC)) != _MAGIC:
        file.close()
        raise ConfigError(f"{path}: expected a file that `datamover-admin backup` has written")
    return file


async def is_empty(database: Database) -> bool:
    """Return whether the database has no objects of its own. Raises Unavailable."""

    async def look(cursor: Cursor) -> bool:
        return await cursor.fetch_one(QUERIES["find_relation"]) is None

    return await database.transaction(look)


async def renumber(database: Database) -> None:
    """Skip some of the numbers that clients are given, since the original gave out numbers after the backup was made.

    Raises Unavailable.
    """
    await database.transaction(lambda cursor: cursor.execute(QUERIES["skip_numbers"]))
