"""Changing the key that rows are sealed with for another, while services run.

The new key joins the old in the file, then seals in its place; rows are sealed anew with it, and when none is left that
needs the old key, that goes. Services read the file again when it changes, so that at every moment each of them can
open what any of them has sealed.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from datamover.errors import StartError
from datamover.jobs.database import Cursor, Database
from datamover.jobs.secrets import Cipher
from datamover.jobs.sql import Queries
from datamover.secret_files import replace

BATCH = 500
"""Rows at a time."""

_SEALED = (("read_sealed_transfers", "reseal_transfers"), ("read_sealed_notices", "reseal_notices"))


def prepare(path: Path) -> None:
    """Add the key that will seal to the file, unless there is one. Raises StartError."""
    _write(path, Cipher.from_file(path).ring.prepared().content())


def turn(path: Path) -> Cipher:
    """Have the next key seal, made if there is none, and return it; the old ones stay. Raises StartError.

    A rotation that was broken off, with old keys in the file, is gone on with: no other key is made.
    """
    ring = Cipher.from_file(path).ring
    if ring.next is None and not ring.old:
        ring = ring.prepared()
    _write(path, ring.turned().content())
    return Cipher.from_file(path)


async def settle(
    path: Path, database: Database, pause: Callable[[], Awaitable[None]], tell: Callable[[int], None]
) -> None:
    """Seal every row with the key that seals, and let go of the old ones.

    ``pause`` is awaited before the last look: what was sealed with an old key just before must be stored by then.
    ``tell`` hears how many rows each look has sealed anew. Raises StartError, and Unavailable.
    """
    cipher = Cipher.from_file(path)
    tell(await reseal(database, cipher))
    await pause()
    while sealed := await reseal(database, cipher):
        tell(sealed)
        await pause()
    _write(path, type(cipher.ring)(cipher.ring.sealing, cipher.ring.next).content())


async def reseal(database: Database, cipher: Cipher) -> int:
    """Look at every sealed row once, and seal anew what another key has sealed; return how many rows that were.

    Rows that somebody is changing are counted as if they had been, for the next look.
    """
    queries = Queries.load()
    changed = await database.transaction(lambda cursor: _reseal_proof(cursor, queries, cipher))
    for reading, writing in _SEALED:
        after = 0
        while True:
            found = await database.fetch(queries[reading], {"after": after, "limit": BATCH})
            if not found:
                break
            after = found[-1]["id"]
            stale = [row for row in found if not cipher.current(bytes(row["sealed"]))]
            if not stale:
                continue
            parameters = {
                "ids": [row["id"] for row in stale],
                "sealed": [cipher.seal(cipher.open(bytes(row["sealed"]))) for row in stale],
            }
            await database.execute(queries[writing], parameters)
            changed += len(stale)
    return changed


async def _reseal_proof(cursor: Cursor, queries: Queries, cipher: Cipher) -> int:
    found = await cursor.fetch_one(queries["lock_installation"])
    assert found is not None, "migrations make this row"
    if found["proof"] is None or cipher.current(bytes(found["proof"])):
        return 0
    await cursor.execute(queries["reseal_proof"], {"proof": cipher.seal(cipher.open(bytes(found["proof"])))})
    return 1


def _write(path: Path, content: bytes) -> None:
    try:
        replace(path, content)
    except OSError as error:
        raise StartError(f"service.key_file: {path}: {error.strerror}") from None
