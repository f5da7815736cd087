"""The identity of an installation: an id, made with its tables, and a proof of the key that seals its rows."""

from datamover.jobs.rows import Seal
from datamover.postgres.database import Cursor, Database
from datamover.postgres.named_queries import QUERIES

_PROOF = "datamover"


async def identify(database: Database, cipher: Seal) -> str:
    """Check that ``cipher`` has the installation's key, and return the installation's id.

    The first call stores a value sealed with the key, as a proof for later calls. Raises StartError for another key,
    and Unavailable.
    """

    async def look(cursor: Cursor) -> str:
        found = await cursor.fetch_one(QUERIES["lock_installation"])
        assert found is not None, "migrations make this row"
        if found["proof"] is None:
            await cursor.execute(QUERIES["prove_key"], {"proof": cipher.seal(_PROOF)})
        else:
            cipher.open(bytes(found["proof"]))
        return str(found["id"])

    return await database.transaction(look)
