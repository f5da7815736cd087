"""The door without a socket and with a clock of its own, for feeding it whatever can be thought of.

What is fed is answered, refused or waited for until the door has lost its patience: the connection always ends. Nothing
of what happens meanwhile is an error that nobody handled, in the log or out of it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xmlrpc.client import dumps

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from datamover.api import make_site
from datamover.api.context import Context
from datamover.api.site import NAMESPACES
from datamover.audit.trail import AuditTrail
from datamover.config.schema import Limits
from datamover.runtime.reload import Reload
from tests.fakes import MemoryJobStore, MemoryTrail, PlainLogins
from tests.servers.door import config_of, houses_of

PATIENCE = 400
"""Seconds of the clock after which nobody waits for anything any more."""
LOOK_OUTSIDE = ("destinations.test", "jobs.check")
"""What works in threads, for which there is no reactor here."""
METHODS = sorted({name for namespace in NAMESPACES for name in namespace.TABLE.methods} - set(LOOK_OUTSIDE))
HEAD = b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nConnection: close\r\n"


class Wire(StringTransport):
    """A connection that ends when it is closed, in whichever way."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ended = False

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's
        self.producer = None

    def loseWriteConnection(self) -> None:  # noqa: N802 - Twisted's
        pass

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's
        self.ended = True

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's
        self.disconnecting = True
        self.ended = True


def _inside(context: Context) -> Context:
    """Return a context without what looks outside."""
    return replace(context, methods={name: context.methods[name] for name in METHODS})


class Mouth:
    """An interface that is fed by hand."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        config = config_of(directory, limits=Limits(request_size=1_000_000, files=1000))
        runtimes = houses_of(config, PlainLogins({}))
        self.site = make_site(
            runtimes=runtimes,
            store=MemoryJobStore(self.clock),
            audit=AuditTrail(MemoryTrail(), self.clock),
            reload=Reload(runtimes, self.clock, lambda: None),
            reactor=self.clock,
        )
        door: Any = self.site.resource.children[b"RPC2"]
        whole = door._context
        door._context = lambda runtime, who: _inside(whole(runtime, who))

    def feed(self, pieces: list[bytes]) -> bytes:
        """Send pieces, wait until the connection has ended, and return what was answered.

        Raises AssertionError where it does not end, or an error was logged, and whatever was raised.
        """
        errors: list[str] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            if "log_failure" in event:
                errors.append(event["log_failure"].getTraceback())

        wire = Wire()
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert channel is not None, "there is always room for one"
        globalLogPublisher.addObserver(observer)
        try:
            channel.makeConnection(wire)  # type: ignore[no-untyped-call]
            for piece in pieces:
                if wire.ended:
                    break
                channel.dataReceived(piece)
                self.clock.advance(0)
            for _ in range(PATIENCE):
                if wire.ended:
                    break
                self.clock.advance(1)
            assert wire.ended, "the connection is still open"
        finally:
            channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
            self.clock.advance(0)
            globalLogPublisher.removeObserver(observer)
        assert not errors, errors[0]
        return bytes(wire.value())  # type: ignore[no-untyped-call]

    def call(self, method: str, parameters: tuple[Any, ...]) -> bytes:
        """Return the answer to a call."""
        return self.feed([posted(dumps(parameters, method, allow_none=True).encode("utf-8", "xmlcharrefreplace"))])


def posted(body: bytes) -> bytes:
    """Return a request with a body."""
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
