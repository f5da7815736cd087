"""The cursor with which a transaction runs its statements."""

from datamover.postgres.connection import Parameters, PostgresConnection, Row


class Cursor:
    """Runs the statements of one transaction; must not be used after the transaction's function has returned."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def execute(self, sql: str, params: Parameters = None) -> None:
        """Run one statement. Raises Unavailable, and psycopg2's errors for a statement that fails."""
        await self._connection.execute(sql, params)

    async def post(self, sql: str, params: Parameters = None) -> None:
        """Queue a statement to be sent with the next one or with the commit; its rows are ignored.

        If it fails, the next statement or the transaction raises its error.
        """
        await self._connection.post(sql, params)

    async def fetch(self, sql: str, params: Parameters = None, behind: str | None = None) -> list[Row]:
        """Run one statement and return its rows: times aware and in UTC, bytea as bytes, jsonb decoded.

        ``behind`` is a statement without parameters that is sent with it and runs right before it.
        """
        return await self._connection.fetch(sql, params, behind)

    async def fetch_one(self, sql: str, params: Parameters = None) -> Row | None:
        """Run one statement and return its first row, None if there is none."""
        rows = await self._connection.fetch(sql, params)
        return rows[0] if rows else None

    async def lift_limit(self) -> None:
        """Remove the time limit of 30 s from the following statements of this transaction."""
        await self._connection.lift_limit()
