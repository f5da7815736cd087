"""Rotating the key that rows are sealed with, while services run.

The new key is added to the key file, then seals in place of the old one. All rows are resealed with it; when no row
needs the old key any more, it is removed. Services read the file again when it changes, so each of them can at any time
open what any other has sealed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from twisted.python.failure import Failure

from datamover.concurrency.batcher import away, bisect_batch
from datamover.errors import StartError
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.failures import one_line
from datamover.postgres.named_queries import QUERIES
from datamover.sealing.keyring import Cipher
from datamover.security.secret_files import replace
from datamover.text.quantities import count

BATCH = 500
"""Rows that are read at a time."""

_SEALED = (("read_sealed_transfers", "reseal_transfers"), ("read_sealed_notices", "reseal_notices"))


def prepare(path: Path) -> None:
    """Add a key that will seal to the file, unless it has one. Raises StartError."""
    _write(path, Cipher.from_file(path).ring.prepared().content())


def turn(path: Path) -> Cipher:
    """Let the next key seal, made if there is none, and return the file's cipher; old keys stay. Raises StartError.

    If old keys are in the file, an earlier rotation was interrupted: it is continued, and no key is made.
    """
    ring = Cipher.from_file(path).ring
    if ring.next is None and not ring.old:
        ring = ring.prepared()
    _write(path, ring.turned().content())
    return Cipher.from_file(path)


@dataclass(frozen=True, slots=True)
class ResealReport:
    """The result of one pass over all sealed rows."""

    sealed: int
    """Rows that were resealed, and rows that were locked by others, which the next pass reseals."""
    lost: int
    """Rows that none of the keys opens; they stay as they are."""
    refused: int
    """Rows that the database refuses to change; they still need an old key."""
    reason: str = ""
    """The database's reason."""


async def settle(
    path: Path, database: Database, pause: Callable[[], Awaitable[None]], tell: Callable[[ResealReport], None]
) -> None:
    """Reseal every row with the key that seals, and remove the old keys from the file.

    ``pause`` is awaited before each further pass: rows that were sealed with an old key just before must be stored by
    then. ``tell`` is called with the report of each pass. Raises StartError, also if a row still needs an old key, and
    Unavailable.
    """
    cipher = Cipher.from_file(path)
    tell(await reseal(database, cipher))
    await pause()
    while (report := await reseal(database, cipher)).sealed:
        tell(report)
        await pause()
    if report.refused:
        raise StartError(
            f"{count(report.refused, 'row')} could not be resealed, so the old key stays in {path}: call this again "
            f"once the database accepts what it refuses now ({report.reason})"
        )
    _write(path, type(cipher.ring)(cipher.ring.sealing, cipher.ring.next).content())


async def reseal(database: Database, cipher: Cipher) -> ResealReport:
    """Go over every sealed row once, and reseal those that another key has sealed."""
    sealed = await database.transaction(lambda cursor: _reseal_proof(cursor, cipher))
    lost = 0
    refused: list[Failure] = []
    for reading, writing in _SEALED:
        after = 0
        while found := await database.fetch(QUERIES[reading], {"after": after, "limit": BATCH}):
            after = found[-1]["id"]
            stale = [row for row in found if not cipher.current(bytes(row["sealed"]))]
            fresh = [(row["id"], text) for row in stale if (text := _opened(cipher, row)) is not None]
            answers = await bisect_batch(partial(_write_rows, database, QUERIES[writing], cipher), fresh)
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
    except StartError:  # A row that no key opens must not stop the others from being resealed.
        return None


async def _write_rows(
    database: Database, query: str, cipher: Cipher, rows: Sequence[tuple[int, str]]
) -> Sequence[None]:
    parameters = {"ids": [id for id, _ in rows], "sealed": [cipher.seal(text) for _, text in rows]}
    await database.execute(query, parameters)
    return [None] * len(rows)


async def _reseal_proof(cursor: Cursor, cipher: Cipher) -> int:
    found = await cursor.fetch_one(QUERIES["lock_installation"])
    assert found is not None, "migrations make this row"
    if found["proof"] is None or cipher.current(bytes(found["proof"])):
        return 0
    await cursor.execute(QUERIES["reseal_proof"], {"proof": cipher.seal(cipher.open(bytes(found["proof"])))})
    return 1


def _write(path: Path, content: bytes) -> None:
    try:
        replace(path, content)
    except OSError as error:
        raise StartError(f"service.key_file: {path}: {error.strerror}") from None
