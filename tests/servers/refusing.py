"""A database that refuses: triggers that raise for the rows that a test chooses.

refusal = Refusal("transfers", "UPDATE", "NEW.id = 7 AND NEW.state = 'COMPLETED'", "22003")
await database.execute(refusal.begin) … await refusal.count(database) … await database.execute(refusal.end)
"""

import itertools
from dataclasses import dataclass, field

from datamover.postgres.database import Database

LASTING = ("22003", "23505", "22021", "22P05", "XX001", "54000")
"""SQLSTATEs of what will be refused again: a number out of range, a duplicate, text that cannot be stored, a damaged
page, a row that fits no index."""
PASSING = ("40001", "25006", "55P03")
"""Of what may be done later: another transaction comes first, the server is read-only (after a failover), a lock."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Refusal:
    """Raises for rows of ``table`` where ``when`` holds, at an ``operation``; ``times`` times, if that is set."""

    table: str
    operation: str
    when: str
    sqlstate: str
    times: int | None = None
    name: str = field(default_factory=lambda: f"refuse_{next(_numbers)}")

    @property
    def begin(self) -> str:
        """What makes it."""
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
        """What takes it away; what it counted stays."""
        return f"DROP FUNCTION {self.name} CASCADE"

    async def count(self, database: Database) -> int:
        """Return how often it was met."""
        [row] = await database.fetch(f"SELECT last_value, is_called FROM {self.name}")
        return int(row["last_value"]) if row["is_called"] else 0
