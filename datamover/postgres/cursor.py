"""What runs the statements of one transaction."""

from datamover.postgres.connection import Parameters, PostgresConnection, Row


class Cursor:
    """What a transaction function runs its statements with; of no use once the function has returned."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def execute(self, sql: str, params: Parameters = None) -> None:
        """Run one statement. Raises Unavailable and psycopg2's errors for what the statement itself did wrong."""
        await self._connection.execute(sql, params)

    async def post(self, sql: str, params: Parameters = None) -> None:
        """Queue a statement to travel with the next one, or with the commit, right before it.

        Its rows are forgotten. What it does wrong is raised by the next one, or by the transaction.
        """
        await self._connection.post(sql, params)

    async def fetch(self, sql: str, params: Parameters = None, behind: str | None = None) -> list[Row]:
        """Run one statement and return its rows: times aware and in UTC, bytea as bytes, jsonb decoded.

        ``behind``: another that is done right before it, on the same way.
        """
        return await self._connection.fetch(sql, params, behind)

    async def fetch_one(self, sql: str, params: Parameters = None) -> Row | None:
        """Run one statement and return its first row, None where there is none."""
        rows = await self._connection.fetch(sql, params)
        return rows[0] if rows else None

    async def lift_limit(self) -> None:
        """Let what follows in this transaction take as long as it takes; other statements have half a minute."""
        await self._connection.lift_limit()
