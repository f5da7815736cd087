"""A database that refuses: triggers that raise for the rows that a test chooses.

refusal = Refusal("transfers", "UPDATE", "NEW.id = 7 AND NEW.state = 'COMPLETED'", "22003")
await database.execute(refusal.begin) … await refusal.count(database) … await database.execute(refusal.end)
"""

import itertools
from dataclasses import dataclass, field

from datamover.postgres.database import Database

LASTING = ("22003", "23505", "22021", "22P05", "XX001", "54000")
"""SQLSTATEs of permanent refusals: a number out of range, a duplicate, text that cannot be stored, a damaged page, a
row too large for an index."""
PASSING = ("40001", "25006", "55P03")
"""SQLSTATEs of temporary refusals: a conflict with another transaction, a read-only server (after a failover), a lock.
"""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Refusal:
    """Raises at an ``operation`` for rows of ``table`` that satisfy ``when``; ``times`` times, if that is set."""

    table: str
    operation: str
    when: str
    sqlstate: str
    times: int | None = None
    name: str = field(default_factory=lambda: f"refuse_{next(_numbers)}")

    @property
    def begin(self) -> str:
        """The SQL that creates the trigger."""
        still = f" AND nextval('{self.name}') <= {self.times}" if self.times else f" AND nextval('{self.name}') > 0"
        row = "OLD" if self.operation == "DELETE" else "NEW"
        return f"""
            CREATE SEQUENCE {self.name};
            CREATE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF ({self.when}){still} THEN
                    RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{self.sqlstate}';
                END IF;
                RETURN {row};
            END $$;
            CREATE TRIGGER {self.name} BEFORE {self.operation} ON {self.table}
                FOR EACH ROW EXECUTE FUNCTION {self.name}();
        """

    @property
    def end(self) -> str:
        """The SQL that drops the trigger; its count stays."""
        return f"DROP FUNCTION {self.name} CASCADE"

    async def count(self, database: Database) -> int:
        """Return how often it has raised."""
        [row] = await database.fetch(f"SELECT last_value, is_called FROM {self.name}")
        return int(row["last_value"]) if row["is_called"] else 0
