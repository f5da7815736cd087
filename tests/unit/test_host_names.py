"""Host names: looked up in threads of their own, so that a name server that hangs holds up no other name."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import ClientFactory, Factory, Protocol

from datamover.app.services import NameResolution
from datamover.bounds.calls import INSPECTIONS_AT_ONCE
from datamover.concurrency.host_names import HostNames, addresses
from datamover.config.schema import Limits
from datamover.errors import ConnectionLost, Scope, TimedOut
from tests.unit.outcomes import failure

PATIENCE = 0.05


class Server:
    """Name servers, as getaddrinfo(3) asks them: those of names that begin with "slow" do not answer until let go."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go = threading.Event()

    def __call__(self, host: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        self.asked[host] += 1
        if host.startswith("slow"):
            self.go.wait(30)
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, kind, 6, "", ("2001:db8::1", port, 0, 3)),
            (socket.AF_INET, kind, 6, "", ("192.0.2.1", port)),
        ]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.go.set()


def names(server: Server, *, at_once: int = 4, most: int = 12) -> HostNames:
    return HostNames(reactor, at_once=at_once, most=most, patience=PATIENCE, look_up=server)


async def installed(known: HostNames, host: str, patience: float = 5.0) -> list[IPv4Address | IPv6Address]:
    """Look a name up as those do who connect."""
    service = NameResolution(reactor, known)
    service.startService()
    try:
        return await addresses(reactor, host, 80, patience, Scope.SOURCE)
    finally:
        service.stopService()


@pytest_twisted.ensureDeferred
async def test_addresses(server: Server) -> None:
    """A name gives all its addresses, with the port that is connected to; one that is not known gives none."""
    assert await installed(names(server), "good.example.org") == [
        IPv6Address("TCP", "2001:db8::1", 80, 0, 3),
        IPv4Address("TCP", "192.0.2.1", 80),
    ]
    assert await installed(names(server), "nowhere.invalid") == []


@pytest_twisted.ensureDeferred
async def test_what_is_an_address_already(server: Server) -> None:
    """An address needs no name server."""
    assert await installed(names(server), "192.0.2.7") == [IPv4Address("TCP", "192.0.2.7", 80)]
    assert await installed(names(server), "2001:db8::7") == [IPv6Address("TCP", "2001:db8::7", 80)]
    assert not server.asked


@pytest_twisted.ensureDeferred
async def test_a_name_that_hangs(server: Server) -> None:
    """A caller whose name is not looked up in time gets an error with the name."""
    with pytest.raises(TimedOut, match=r"the name slow\.example was not looked up within 0\.02 s") as told:
        await installed(names(server), "slow.example", patience=0.02)
    assert told.value.scope is Scope.SOURCE


@pytest_twisted.ensureDeferred
async def test_one_name_takes_one_thread(server: Server) -> None:
    """However many wait for a name that hangs, and ask again, it is looked up once; all hear of it when it answers."""
    known = names(server, at_once=1, most=2)
    impatient = [known.look_up("slow.example") for _ in range(50)]
    for one in impatient:
        one.cancel()
        assert isinstance(failure(one), CancelledError)
    patient = [known.look_up("slow.example") for _ in range(50)]

    assert len(await known.look_up("good.example.org")) == 2
    server.go.set()
    assert {len(found) for found in await gatherResults(patient)} == {2}
    assert server.asked["slow.example"] == 1


@pytest_twisted.ensureDeferred
async def test_names_that_hang_hold_up_no_other(server: Server) -> None:
    """Others are looked up beside many that hang, as soon as it is known that those do."""
    known = names(server)
    hanging = [known.look_up(f"slow-{number}.example") for number in range(10)]
    for number in range(20):
        assert len(await known.look_up(f"good-{number}.example.org")) == 2
    assert not any(one.called for one in hanging)
    server.go.set()
    await gatherResults(hanging)


@pytest_twisted.ensureDeferred
async def test_what_one_client_has_looked_up_holds_up_no_other(server: Server) -> None:
    """Names of all the transfers that one client may have at once hang; the next name is looked up beside them."""
    known = HostNames(reactor, patience=3600.0, look_up=server)
    hanging = [known.look_up(f"slow-{number}.example") for number in range(Limits().per_owner + INSPECTIONS_AT_ONCE)]
    assert len(await known.look_up("good.example.org")) == 2
    assert not any(one.called for one in hanging)
    server.go.set()
    await gatherResults(hanging)


@pytest_twisted.ensureDeferred
async def test_threads_are_bounded(server: Server) -> None:
    """There are never more threads than may be; what waits for one goes on when one comes back."""
    known = names(server)
    hanging = [known.look_up(f"slow-{number}.example") for number in range(40)]
    good = known.look_up("good.example.org")
    await task.deferLater(reactor, 6 * PATIENCE)
    assert len(server.asked) == 12
    server.go.set()
    assert len(await good) == 2
    await gatherResults(hanging)


@pytest_twisted.ensureDeferred
async def test_nobody_waits_any_more(server: Server) -> None:
    """A name that nobody waits for when its turn comes is not looked up."""
    known = names(server, at_once=1, most=1)
    hanging = known.look_up("slow.example")
    given_up = known.look_up("other.example.org")
    given_up.addErrback(lambda _: None)
    given_up.cancel()
    last = known.look_up("last.example.org")
    server.go.set()
    await gatherResults([hanging, last])
    assert set(server.asked) == {"slow.example", "last.example.org"}


@pytest_twisted.ensureDeferred
async def test_no_thread_to_be_had(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system starts no thread, a look-up fails; it works once the system does."""
    known = names(server)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ConnectionLost):
            await known.look_up("good.example.org")
    assert len(await known.look_up("good.example.org")) == 2


class Caller(Protocol):
    """Tells that it has connected, and hangs up."""

    def __init__(self, connected: "Deferred[None]") -> None:
        self.told = connected

    def connectionMade(self) -> None:  # noqa: N802
        self.transport.abortConnection()  # type: ignore[union-attr]
        self.told.callback(None)


@pytest_twisted.ensureDeferred
async def test_the_means_of_twisted() -> None:
    """What connects by Twisted's own means has its names looked up here too, until the service stops."""

    def here(host: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, kind, 6, "", ("127.0.0.1", port))] if host == "only.here.example" else []

    plugged: Any = reactor
    listening = plugged.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    before = plugged.nameResolver
    service = NameResolution(reactor, HostNames(reactor, look_up=here))
    service.startService()
    try:
        for connect in (
            lambda port, factory: HostnameEndpoint(reactor, "only.here.example", port).connect(factory),
            lambda port, factory: plugged.connectTCP("only.here.example", port, factory),
        ):
            connected: Deferred[None] = Deferred()
            factory = ClientFactory.forProtocol(partial(Caller, connected))
            factory.noisy = False
            connect(listening.getHost().port, factory)
            await connected
    finally:
        service.stopService()
        await listening.stopListening()
    assert plugged.nameResolver is before
