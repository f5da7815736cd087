"""What the tests of WebDAV share: a collection looked at on its disk, and a pool for it."""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from datamover.protocols.dav import DAV
from datamover.protocols.dav.chunks import SUFFIX
from datamover.protocols.part_files.names import PREFIX
from datamover.protocols.place import DestinationPool
from tests.protocols.conformance import Outside, settings
from tests.protocols.part_files import Disk, DiskPremises
from tests.servers.dav import DavServer, give

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class DavDisk(Disk):
    """``conformance.Outside`` of a collection; what is laid there belongs to the server."""

    chunked: Path | None = None
    """Where the uploads in chunks are, each a directory."""

    def lay(self, path: str, data: bytes, modified: float | None = None) -> None:
        (self.root / path).write_bytes(data)
        give(self.root / path)
        if modified is not None:
            os.utime(self.root / path, (modified, modified))

    def names(self, directory: str = "") -> list[str]:
        return sorted(name for name in os.listdir(self.root / directory) if not name.startswith(".DAV"))

    def uploads(self) -> int:
        chunked = list(self.chunked.iterdir()) if self.chunked else []
        return len(list(self.root.rglob(f"*{PREFIX.strip('.')}*{SUFFIX}"))) + len(chunked)


@dataclass(frozen=True)
class DavPremises(DiskPremises):
    """A collection of a server, empty at first."""

    modes: bool = False
    links: bool = False
    at_once: bool = False
    resumes: bool = False
    saves: bool = False

    def give(self, name: str) -> None:
        give(self.root / name)

    @property
    def outside(self) -> Outside:
        return DavDisk(self.root, hides=False)


def pool_of(server: DavServer, path: str = "", **options: Any) -> DestinationPool:
    """Return a pool for a path of a server, which its caller closes."""
    table = {**server.options, **options}
    return DAV.open(settings(f"{server.url}/{path}"), DAV.options.model_validate(table), reactor)


def premises_on(server: DavServer, *, times: bool = False, chunk_size: str = "16MiB", **more: Any) -> DavPremises:
    """Return a collection of its own on a server; its caller closes the pool."""
    name = f"n{next(_numbers)}"
    outer = server.root / name
    for each in (outer, outer / "root"):
        each.mkdir()
        give(each)
    return DavPremises(
        pool_of(server, f"{name}/root", chunk_size=chunk_size), outer / "root", nullcontext, times=times, **more
    )


@asynccontextmanager
async def opened(server: DavServer, path: str = "", **options: Any) -> AsyncIterator[DestinationPool]:
    """Give a pool, and close it afterwards."""
    pool = pool_of(server, path, **options)
    try:
        yield pool
    finally:
        await pool.close()


__all__ = ["DavDisk", "DavPremises", "opened", "pool_of", "premises_on"]
