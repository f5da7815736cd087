"""What tells one installation from another: an id, made with its tables, and the key that its rows are sealed with."""

from datamover.jobs.rows import Seal
from datamover.postgres.database import Cursor, Database
from datamover.postgres.named_queries import NamedQueries

_PROOF = "datamover"


async def identify(database: Database, cipher: Seal) -> str:
    """Return the installation's id, once ``cipher`` is known to be its key; the first to ask leaves a proof of it.

    Raises StartError for another key, and Unavailable.
    """
    queries = NamedQueries.load()

    async def look(cursor: Cursor) -> str:
        found = await cursor.fetch_one(queries["lock_installation"])
        assert found is not None, "migrations make this row"
        if found["proof"] is None:
            await cursor.execute(queries["prove_key"], {"proof": cipher.seal(_PROOF)})
        else:
            cipher.open(bytes(found["proof"]))
        return str(found["id"])

    return await database.transaction(look)
