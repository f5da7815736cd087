"""What the tests of SFTP share: a pool for a server, and a few moves."""

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Never

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.errors import Scope
from datamover.protocols.base import Ability, Source
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.seam import PartFileSink
from datamover.protocols.place import DestinationPool, Place, PlaceSettings
from datamover.protocols.sftp import SFTP
from tests.protocols.part_files import part_files

MIB = 2**20
LARGE = 50 * MIB
PART = ".datamover-1-ab.part"


@asynccontextmanager
async def opened(
    server: Any,
    *,
    connect_timeout: float = 10.0,
    idle_timeout: float = 10.0,
    url: str | None = None,
    private_key_file: Path | None = None,
    passphrase_file: Path | None = None,
    password_file: Path | None = None,
) -> AsyncIterator[DestinationPool]:
    """Give a pool for ``server``, with its key unless other secrets are named; close it afterwards."""
    if private_key_file is None and password_file is None:
        private_key_file = server.private_key
    options = {
        "known_hosts_file": server.known_hosts,
        "private_key_file": private_key_file,
        "passphrase_file": passphrase_file,
        "password_file": password_file,
    }
    settings = PlaceSettings("vis", url or server.url, 0o644, 0o755, connect_timeout, idle_timeout)
    pool = SFTP.open(settings, SFTP.options.model_validate(options), reactor)
    try:
        yield pool
    finally:
        await pool.close()


async def send(place: PartFilePlace, part: str, data: bytes, *, offset: int = 0) -> int:
    """Write ``data`` to a part file in chunks; return the size the server tells."""
    sink = await place.open_part(part, "file", offset=offset)
    try:
        for start in range(0, len(data), MIB):
            await sink.write(data[start : start + MIB])
        return await sink.finish(modified=None)
    finally:
        await sink.close()


async def sha256(place: Place, path: str) -> str:
    """Read a file to its end and return its digest."""
    digest = hashlib.sha256()
    source = await place.origin(path).open()
    try:
        while data := await source.read():
            digest.update(data)
    finally:
        await source.close()
    return digest.hexdigest()


async def drain(source: Source) -> int:
    """Read to the end; return how many bytes there were."""
    count = 0
    while data := await source.read():
        count += len(data)
    return count


async def pour(sink: PartFileSink) -> Never:
    """Write without end."""
    while True:
        await sink.write(bytes(MIB))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def started(awaitable: object) -> Deferred[object]:
    return Deferred.fromCoroutine(awaitable)  # type: ignore[arg-type]


def lacking(pool: DestinationPool) -> set[Ability]:
    """Return what a pool's other side was found not to do."""
    return {lack.ability for lack in pool.lacks}


def writing(pool: DestinationPool) -> PartFilePlace:
    return part_files(pool)


def reading(pool: DestinationPool) -> Place:
    return pool.at(Scope.SOURCE)
