"""What the tests of reading from the web share: a client, a server, and a whole file read."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.internet import reactor, task

from datamover.config import schema
from datamover.errors import DataMoverError
from datamover.protocols.base import Source
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import Prefix, SourcePolicy
from tests.servers.certificates import ServerTLS
from tests.servers.web import Web

LOCAL = ("127.0.0.0/8", "::1")


@asynccontextmanager
async def reading(
    *,
    allow: tuple[str, ...] | None = None,
    addresses: tuple[str, ...] = LOCAL,
    credentials: tuple[schema.Credential, ...] = (),
    connect_timeout: float = 5.0,
    idle_timeout: float = 5.0,
    ca_file: Path | None = None,
    proxy: str | None = None,
    streams: int = 4,
    clock: Any = reactor,
    narrowed: Mapping[str, Sequence[Prefix]] = MappingProxyType({}),
) -> AsyncIterator[HttpClient]:
    """A client with these settings; the addresses of this machine are allowed unless said otherwise."""
    sources = schema.Sources(allow=allow, allow_addresses=addresses, credentials=credentials)
    client = HttpClient(
        clock,
        schema.Http(proxy=proxy, ca_file=ca_file, streams=streams),
        schema.Transfers(connect_timeout=connect_timeout, idle_timeout=idle_timeout),
        SourcePolicy.from_config(sources),
        SourceCredentials.from_config(sources),
        narrowed=narrowed,
    )
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def serving(tls: ServerTLS | None = None, interface: str = "127.0.0.1") -> AsyncIterator[Web]:
    """A server that runs."""
    web = Web(reactor, tls=tls, interface=interface)
    await web.start()
    try:
        yield web
    finally:
        await web.stop()


async def rest_of(source: Source) -> bytes:
    """Read a source to its end and close it."""
    pieces = []
    try:
        while piece := await source.read():
            pieces.append(piece)
    finally:
        await source.close()
    return b"".join(pieces)


async def until_broken(source: Source) -> tuple[bytes, DataMoverError | None]:
    """Read a source to its error, and close it."""
    received = b""
    try:
        while piece := await source.read():
            received += piece
    except DataMoverError as error:
        return received, error
    finally:
        await source.close()
    return received, None


async def content_of(client: HttpClient, url: str) -> bytes:
    """Open a URL and read all of it."""
    return await rest_of(await client.origin(url).open())


async def soon(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; False when it does not within 5 s."""
    deadline = reactor.seconds() + 5
    while not condition():
        if reactor.seconds() > deadline:
            return False
        await task.deferLater(reactor, 0.01, lambda: None)
    return True
