"""Endpoints that connect to checked addresses, or through a proxy.

A host name is resolved once, and only the addresses that passed the check are connected to. So neither a second DNS
answer nor another spelling of an address leads elsewhere.
"""

from collections.abc import Callable
from ipaddress import IPv4Address as Address4
from ipaddress import IPv6Address as Address6
from ipaddress import ip_address
from typing import Any

from twisted.internet import error as internet_error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover.bounds.servers import LARGEST_TUNNEL_HEAD
from datamover.concurrency.host_names import Resolved, addresses
from datamover.errors import AuthenticationFailed, ConnectFailed, Scope, SourceNotAllowedHere, TimedOut
from datamover.protocols.http.client.fields import MalformedHttp
from datamover.protocols.http.client.heads import END, read_head


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """A host, resolved once, and connected to at an address that ``admit`` accepts.

    ``connect`` fails with SourceNotAllowedHere if none is accepted, ConnectFailed or TimedOut if none answers.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        admit: Callable[[Address4 | Address6], bool],
        timeout: float,
        role: str = "",
    ) -> None:
        """Prepare; ``role`` precedes the host in messages.

        ``timeout``, in seconds, is for resolving the name, and again for each address to answer.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._admit = admit
        self._timeout = timeout
        self._role = role

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        found = await addresses(self._reactor, self._host, self._port, self._timeout, Scope.SOURCE)
        where = f"{self._role}{self._host} port {self._port}"
        if not found:
            raise ConnectFailed(f"no address is known for {self._role}{self._host}", scope=Scope.SOURCE)
        admitted = [address for address in found if self._admit(ip_address(address.host))]
        if not admitted:
            refusal = (
                f"{self._host} is at {found[0].host}, which is not a public address, and neither a rule "
                "in [sources] allow nor allow_addresses names it"
            )
            raise SourceNotAllowedHere(
                refusal, full=f'{refusal}; to allow it, add "{found[0].host}" to [sources] allow_addresses, and reload'
            )
        try:
            # It gets an address, since it refuses some host names ("a_b.example.org").
            reactor = Resolved(self._reactor, admitted)
            return await HostnameEndpoint(reactor, admitted[0].host, self._port, self._timeout).connect(factory)
        except (internet_error.TimeoutError, internet_error.TCPTimedOutError):
            raise TimedOut(f"{where} does not answer within {self._timeout:g} s", scope=Scope.SOURCE) from None
        except (internet_error.ConnectError, internet_error.DNSLookupError) as error:
            raise ConnectFailed(f"cannot connect to {where}: {_plain(error)}", scope=Scope.SOURCE) from None


def _plain(error: Exception) -> str:
    """Return Twisted's message for a failed connection as a clause."""
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]


class _Tunnel(Protocol):
    """Sends CONNECT to a proxy, then passes everything to the inner protocol."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode("ascii")
        self._head = b""
        self._inner: IProtocol | None = None
        self.answered: Deferred[int] = Deferred()

    def connectionMade(self) -> None:  # noqa: N802
        self.transport.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (self._authority, self._authority))  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head += data
        if (end := END.search(self._head)) or len(self._head) > LARGEST_TUNNEL_HEAD:
            try:
                self._answer(read_head(self._head[: end.end()]).status if end else 0)
            except MalformedHttp:
                self._answer(0)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        if self._inner is not None:
            self._inner.connectionLost(reason)
        else:
            self._answer(0)

    def enter(self, factory: IProtocolFactory) -> IProtocol:
        """Build the inner protocol and connect it."""
        inner = factory.buildProtocol(self.transport.getPeer())  # type: ignore[union-attr]
        assert inner is not None
        self._inner = inner
        inner.makeConnection(self.transport)  # type: ignore[arg-type]
        return inner

    def _answer(self, status: int) -> None:
        if not self.answered.called:
            self.answered.callback(status)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A host and port, reached through an HTTP proxy by CONNECT (RFC 9110 9.3.6).

    ``connect`` fails with AuthenticationFailed (407), ConnectFailed, or as the proxy's own endpoint does.
    """

    def __init__(self, proxy: IStreamClientEndpoint, host: str, port: int) -> None:
        self._proxy = proxy
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        entrance = Factory.forProtocol(lambda: _Tunnel(self._authority))
        entrance.noisy = False
        tunnel: Any = await self._proxy.connect(entrance)
        entered = False
        try:
            status = await tunnel.answered
            if status == 407:
                raise AuthenticationFailed("the HTTP proxy asks for a login (407)", scope=Scope.SOURCE)
            if not 200 <= status < 300:
                told = f"answered {status}" if status else "ended the connection"
                raise ConnectFailed(
                    f"the HTTP proxy did not connect to {self._authority}: it {told}", scope=Scope.SOURCE
                )
            inner: IProtocol = tunnel.enter(factory)
            entered = True
            return inner
        finally:
            if not entered:
                tunnel.transport.abortConnection()
