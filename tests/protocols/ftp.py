"""What the tests of FTP share: a pool for a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor

from datamover.protocols.ftp import FTP
from datamover.protocols.place import DestinationPool, PlaceSettings
from tests.servers.ftp import FtpServer


def pool_of(server: FtpServer, below: str = "", **options: Any) -> DestinationPool:
    """Return a pool for a directory below the server's root, which its caller closes."""
    return pool_at(f"{server.url.rstrip('/')}/{below}", {**server.options, **options})


def pool_at(url: str, options: dict[str, Any], *, timeout: float = 10.0) -> DestinationPool:
    settings = PlaceSettings("place", url, 0o640, 0o750, timeout, timeout)
    return FTP.open(settings, FTP.options.model_validate(options), reactor)


@asynccontextmanager
async def opened(server: FtpServer, below: str = "", **options: Any) -> AsyncIterator[DestinationPool]:
    """Give a pool, and close it afterwards."""
    pool = pool_of(server, below, **options)
    try:
        yield pool
    finally:
        await pool.close()
