"""The API on a port: a real registry of local directories, and a job store in memory or a given one."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from datamover.api import make_site
from datamover.api.http.tls import ServerTLS, over_tls
from datamover.audit.trail import AuditTrail
from datamover.config.schema import Client, Config, DestinationTable, Limits, Service, Sources, Tls
from datamover.jobs.notifications import Notifications
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.store import JobStore
from datamover.notices.secrets import NoticeSecrets
from datamover.postgres.database import Database
from datamover.runtime.reload import Reload
from datamover.runtime.snapshot import Checks, Runtime, RuntimeHolder
from datamover.sealing.keyring import Cipher
from tests.fakes import MemoryJobStore, MemoryTrail, PlainLogins
from tests.servers.postgres import address, shared

URL = "https://example.org/data/a.csv"
WAIT = 60.0
"""Seconds that a test's client waits for an answer."""


def config_of(
    directory: Path,
    *names: str,
    clients: dict[str, Client] | None = None,
    limits: Limits | None = None,
    hosts: tuple[str, ...] = (),
    sources: Sources | None = None,
    tls: Tls | None = None,
) -> Config:
    """Return a configuration of local destinations, each below ``directory``."""
    tables = {name: DestinationTable(url=(directory / name).as_uri()) for name in names or ("local", "archive")}
    return Config(
        destinations=tables,
        clients=clients or {},
        limits=limits or Limits(),
        sources=sources or Sources(),
        tls=tls or Tls(),
        service=Service(hosts=hosts, data_directory=directory / "data"),
    )


def one(**changes: Any) -> dict[str, Any]:
    """Return a request for one file."""
    return {"source": URL, "destination": "archive", "path": "in/a.csv", **changes}


async def faulted(asking: Awaitable[Any]) -> Fault:
    """Return the Fault of a call that is refused."""
    with pytest.raises(Fault) as caught:
        await asking
    return caught.value


def told(answer: bytes) -> tuple[int, bytes]:
    """Return the status and the body of an HTTP answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def houses_of(config: Config, logins: Checks) -> RuntimeHolder:
    """Return the Runtime of a configuration, with the test's logins."""
    # The passwords are plain, not hashes.
    bare = config.model_copy(update={"clients": {}})
    built = Runtime.build(bare, reactor)
    return RuntimeHolder(
        replace(built, settings=config, logins=logins, notice_secrets=NoticeSecrets.from_config(config))
    )


@asynccontextmanager
async def stored(config: Config, directory: Path, *, logins: Checks | None = None) -> AsyncIterator["Door"]:
    """Serve the real store, in a new database whose key is in ``directory``."""
    database = Database(reactor, address(await shared().migrated(reactor)), 4)
    await database.open()
    news = Notifications(database)
    await news.start()
    bounds = QueueLimits(destinations={"local": 8, "archive": 8})
    store = JobStore(database, Cipher.from_file(directory / "key"), news, reactor, lambda: bounds)
    door = Door(config, logins=logins, store=store)
    yield door
    await door.close()
    await database.close()


class Door:
    """A served API, and methods to call it."""

    def __init__(self, config: Config, *, logins: Checks | None = None, store: JobStore | None = None) -> None:
        """Start to serve, over TLS if the configuration has a certificate."""
        self.config = config
        self.store = MemoryJobStore(reactor)
        self.logins = logins or PlainLogins({})
        self.runtimes = houses_of(config, self.logins)
        self.registry = self.runtimes.now.registry
        self.trail = MemoryTrail()
        self.audit = AuditTrail(self.trail, reactor)
        self.site = make_site(
            runtimes=self.runtimes,
            store=store or self.store,
            audit=self.audit,
            reload=Reload(self.runtimes, reactor, lambda: None),
            reactor=reactor,
        )
        listening: Any = reactor
        self.tls = ServerTLS(config.tls, listening.seconds) if config.tls.certificate_file else None
        served = over_tls(self.tls, self.site, reactor) if self.tls else self.site
        self._port = listening.listenTCP(0, served, backlog=1000, interface="127.0.0.1")
        self.port: int = self._port.getHost().port

    def url(self, login: str = "", path: str = "/data_mover") -> str:
        return f"http://{login}{'@' if login else ''}127.0.0.1:{self.port}{path}"

    def ask(self, calls: Callable[[Any], Any], *, login: str = "", path: str = "/data_mover") -> Deferred[Any]:
        """Run ``calls`` in a thread, with Python's own client."""

        def run() -> Any:
            with ServerProxy(self.url(login, path), allow_none=True) as client:
                return calls(client)

        return deferToThread(run)

    def raw(self, data: bytes, *, ending: bool = False) -> Deferred[bytes]:
        """Send bytes, ``ending`` with a half-closed connection, and return everything received until it ends."""

        def run() -> bytes:
            with self.socket() as connection:
                connection.sendall(data)
                if ending:
                    connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b""))

        return deferToThread(run)

    @contextmanager
    def socket(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), WAIT) as connection:
            yield connection

    def post(self, body: bytes, *headers: str, host: str | None = None) -> bytes:
        """Return a whole request with a body, closing the connection after it."""
        lines = [
            "POST /data_mover HTTP/1.1",
            f"Host: {host or f'127.0.0.1:{self.port}'}",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *(headers or ("Content-Type: text/xml",)),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def close(self) -> None:
        await self._port.stopListening()
        await self.runtimes.close()
