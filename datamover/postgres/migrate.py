"""Migrations: numbered SQL files that make the tables, each applied once, in order, in one transaction. Forward only.

The files are ``migrations/NNNN_name.sql``, numbered from 1 without gaps. One process at a time applies them.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from psycopg2.errors import InsufficientPrivilege
from twisted.logger import Logger

from datamover.errors import StartError
from datamover.postgres.admission import LoginAttempt, no_right
from datamover.postgres.database import Cursor, Database

log = Logger()

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('datamover.migrate'))"
_PATIENCE = "SET LOCAL lock_timeout = '5s'"
"""Others queue behind a migration that waits for a table's lock; so it gives up, and is tried again."""
_WHO = """
SELECT current_user AS role, current_database() AS database, coalesce(host(inet_server_addr()), 'its socket') AS host
"""
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """Return the migrations of this version of datamover, in order."""
    found = []
    for file in (resources.files("datamover.jobs") / "migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered from 1 without gaps")
    return found


async def migrate(database: Database, migrations: list[Migration] | None = None) -> list[Migration]:
    """Apply the migrations that are missing and return them; safe to run at any time, by several processes at once.

    Raises StartError for a database that a newer datamover has migrated or whose migrations are others, NotNow if a
    table stays locked, AccessRefused if the role may not make tables, and Unavailable. Migrations that were applied
    before the error stay.
    """
    known = available() if migrations is None else migrations
    applied: list[Migration] = []
    while True:
        try:
            migration = await database.transaction(lambda cursor: _apply_next(cursor, known))
        except InsufficientPrivilege as error:
            (told,) = await database.read(_WHO)
            raise no_right(error.diag.message_primary or str(error), LoginAttempt(**told)) from error
        if migration is None:
            return applied
        log.info("applied migration {number:04d}_{name}", number=migration.number, name=migration.name)
        applied.append(migration)


async def _apply_next(cursor: Cursor, known: list[Migration]) -> Migration | None:
    # Building an index over a long history has no time limit; nor has waiting for another process that does so.
    await cursor.lift_limit()
    await cursor.execute(_LOCK)
    await cursor.execute(_PATIENCE)
    await cursor.execute("SET LOCAL client_min_messages = warning")
    await cursor.execute(_TABLE)
    rows = await cursor.fetch("SELECT number, name, sha256 FROM schema_migrations ORDER BY number")
    if rows and rows[-1]["number"] > len(known):
        raise StartError(
            f"the database has migration {rows[-1]['number']:04d}_{rows[-1]['name']}, which this version of datamover "
            f"does not know (it knows {len(known)}): install the newer version, or restore the backup from before it"
        )
    for row, migration in zip(rows, known, strict=False):
        if (row["number"], row["sha256"]) != (migration.number, migration.sha256):
            raise StartError(
                f"the database was made by another migration {row['number']:04d}_{row['name']} than this version's: "
                "use the version of datamover that made it, or another database"
            )
    if len(rows) == len(known):
        return None
    migration = known[len(rows)]
    await cursor.execute(migration.sql)
    await cursor.execute(
        "INSERT INTO schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
        (migration.number, migration.name, migration.sha256),
    )
    return migration
