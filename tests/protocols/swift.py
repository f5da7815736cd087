"""What the tests of Swift share: a container looked at past datamover, and a pool for it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor

from datamover.protocols.place import DestinationPool, PlaceSettings
from datamover.protocols.swift import SWIFT
from tests.protocols.conformance import Outside, Premises
from tests.servers.swift import CONTAINER, SwiftAccount

PREFIX = "a/prefix"
SEGMENTS = f"{CONTAINER}_segments"


class ContainerOutside:
    """``conformance.Outside`` of a prefix of a container."""

    def __init__(self, server: SwiftAccount, prefix: str = PREFIX) -> None:
        self._server = server
        self._prefix = prefix

    def read(self, path: str) -> bytes | None:
        status, _, body = self._server.ask("GET", CONTAINER, f"{self._prefix}/{path}")
        return body if status == 200 else None

    def head(self, path: str) -> dict[str, str]:
        return self._server.ask("HEAD", CONTAINER, f"{self._prefix}/{path}")[1]

    def lay(self, path: str, data: bytes, modified: float | None = None) -> None:
        headers = {} if modified is None else {"X-Object-Meta-Mtime": str(modified)}
        status, _, body = self._server.ask("PUT", CONTAINER, f"{self._prefix}/{path}", headers=headers, body=data)
        assert status == 201, body

    def lay_large(self, path: str, *parts: bytes, container: str = "foreign", static: bool = True) -> None:
        """Put a large object there, as another program does."""
        self._server.ask("PUT", container)
        entries = []
        for number, part in enumerate(parts):
            _, headers, _ = self._server.ask("PUT", container, f"{path}/{number}", body=part)
            entries.append({"path": f"/{container}/{path}/{number}", "etag": headers["etag"], "size_bytes": len(part)})
        name = f"{self._prefix}/{path}"
        if static:
            query = {"multipart-manifest": "put"}
            status, _, _ = self._server.ask("PUT", CONTAINER, name, query=query, body=json.dumps(entries).encode())
        else:
            manifest = {"X-Object-Manifest": f"{container}/{path}/"}
            status, _, _ = self._server.ask("PUT", CONTAINER, name, headers=manifest)
        assert status == 201

    def names(self, directory: str = "") -> list[str]:
        prefix = f"{self._prefix}/{directory}/" if directory else f"{self._prefix}/"
        found = [name.removeprefix(prefix) for name in self._server.names(prefix=prefix)]
        return sorted({name.partition("/")[0] for name in found})

    def segments(self) -> set[str]:
        """Return the names of all segments, and of what else stands beside them."""
        return set(self._server.names(SEGMENTS))

    def uploads(self) -> int:
        used = set()
        for name in self._server.names(prefix=self._prefix):
            _, headers, body = self._server.ask("GET", CONTAINER, name, query={"multipart-manifest": "get"})
            if headers.get("x-static-large-object"):
                used |= {each["name"].split("/", 2)[2].rpartition("/")[0] for each in json.loads(body)}
        return len({name.rpartition("/")[0] for name in self.segments()} - used)


def pool_of(
    server: SwiftAccount, prefix: str = PREFIX, *, container: str = CONTAINER, **options: Any
) -> DestinationPool:
    """Return a pool for a prefix of the server's container, which its caller closes."""
    known = server.options
    if "application_credential_id" in options:
        known = {"auth_url": known["auth_url"]}
    table = {**known, **options}
    settings = PlaceSettings("place", f"swift://{container}/{prefix}", 0o640, 0o750, 10.0, 10.0)
    return SWIFT.open(settings, SWIFT.options.model_validate(table), reactor)


@asynccontextmanager
async def opened(server: SwiftAccount, prefix: str = PREFIX, **options: Any) -> AsyncIterator[DestinationPool]:
    """Give a pool, and close it afterwards."""
    pool = pool_of(server, prefix, **options)
    try:
        yield pool
    finally:
        await pool.close()


class SwiftPremises(Premises):
    """A prefix of a server's container, empty at first."""

    unit = 2 * 2**20

    def __init__(self, server: SwiftAccount, **options: Any) -> None:
        self.pool = pool_of(server, **options)
        self._outside = ContainerOutside(server)

    @property
    def outside(self) -> Outside:
        return self._outside
