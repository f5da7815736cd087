"""Changing the key that rows are sealed with for another, while services run.

The new key joins the old in the file, then seals in its place; rows are sealed anew with it, and when none is left that
needs the old key, that goes. Services read the file again when it changes, so that at every moment each of them can
open what any of them has sealed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from twisted.python.failure import Failure

from datamover.concurrency.batcher import away, bisect_batch
from datamover.errors import StartError
from datamover.postgres.connection import one_line
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import NamedQueries
from datamover.sealing.keyring import Cipher
from datamover.security.secret_files import replace

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


@dataclass(frozen=True, slots=True)
class ResealReport:
    """What one look at every sealed row came to."""

    sealed: int
    """Rows that were sealed anew; also those that somebody was changing, which are for the next look."""
    lost: int
    """Rows that none of the keys opens: they stay as they are."""
    refused: int
    """Rows that the database does not let change, which need an old key still."""
    reason: str = ""
    """Why."""


async def settle(
    path: Path, database: Database, pause: Callable[[], Awaitable[None]], tell: Callable[[ResealReport], None]
) -> None:
    """Seal every row with the key that seals, and let go of the old ones.

    ``pause`` is awaited before the last look: what was sealed with an old key just before must be stored by then.
    ``tell`` hears of each look. Raises StartError, also where a row needs an old key still, and Unavailable.
    """
    cipher = Cipher.from_file(path)
    tell(await reseal(database, cipher))
    await pause()
    while (look := await reseal(database, cipher)).sealed:
        tell(look)
        await pause()
    if look.refused:
        raise StartError(
            f"{look.refused} rows could not be sealed anew, so the old key stays in {path}: call this again once the "
            f"database takes them ({look.reason})"
        )
    _write(path, type(cipher.ring)(cipher.ring.sealing, cipher.ring.next).content())


async def reseal(database: Database, cipher: Cipher) -> ResealReport:
    """Look at every sealed row once, and seal anew what another key has sealed."""
    queries = NamedQueries.load()
    sealed = await database.transaction(lambda cursor: _reseal_proof(cursor, queries, cipher))
    lost = 0
    refused: list[Failure] = []
    for reading, writing in _SEALED:
        after = 0
        while found := await database.fetch(queries[reading], {"after": after, "limit": BATCH}):
            after = found[-1]["id"]
            stale = [row for row in found if not cipher.current(bytes(row["sealed"]))]
            fresh = [(row["id"], text) for row in stale if (text := _opened(cipher, row)) is not None]
            answers = await bisect_batch(partial(_write_rows, database, queries[writing], cipher), fresh)
            failures = [answer for answer in answers if isinstance(answer, Failure)]
            for failure in filter(away, failures):
                failure.raiseException()
            refused += failures
            lost += len(stale) - len(fresh)
            sealed += len(fresh) - len(failures)
    return ResealReport(sealed, lost, len(refused), one_line(refused[0].value) if refused else "")  # type: ignore[arg-type]


def _opened(cipher: Cipher, row: Row) -> str | None:
    try:
        return cipher.open(bytes(row["sealed"]))
    except StartError:  # The others are sealed anew all the same.
        return None


async def _write_rows(
    database: Database, query: str, cipher: Cipher, rows: Sequence[tuple[int, str]]
) -> Sequence[None]:
    parameters = {"ids": [id for id, _ in rows], "sealed": [cipher.seal(text) for _, text in rows]}
    await database.execute(query, parameters)
    return [None] * len(rows)


async def _reseal_proof(cursor: Cursor, queries: NamedQueries, cipher: Cipher) -> int:
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
