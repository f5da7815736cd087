"""A resolver of host names that name servers which do not answer cannot block.

Names are looked up in threads of their own, each once at a time, however many callers ask. getaddrinfo(3) cannot be
stopped: a look-up that takes longer than ``LOOKUP_SECONDS`` is written off. Its thread goes on waiting, and a further
thread takes its place, up to ``MOST_LOOKUPS``. Callers set a timeout of their own (``addresses``).
"""

import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NoAnswer
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover.bounds.servers import LOOKUP_SECONDS, LOOKUPS_AT_ONCE, MOST_LOOKUPS
from datamover.concurrency.threads import Threads
from datamover.concurrency.waiters import Waiters
from datamover.errors import Scope, TimedOut

log = Logger()

AddressInfo = Sequence[tuple[Any, ...]]
"""What getaddrinfo(3) returns."""

_FAMILIES = {
    frozenset({IPv4Address}): socket.AF_INET,
    frozenset({IPv6Address}): socket.AF_INET6,
}
_KINDS = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}
_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


class _Search:
    """One look-up, and the callers that wait for it."""

    def __init__(self, key: tuple[str, int, int]) -> None:
        self.key = key
        self.waiters: Waiters[AddressInfo] = Waiters()
        self.hangs = False


@implementer(IHostnameResolver)
class HostNames:
    """An IHostnameResolver, to be installed in a reactor."""

    def __init__(
        self,
        reactor: Any,
        name: str = "names",
        *,
        at_once: int = LOOKUPS_AT_ONCE,
        most: int = MOST_LOOKUPS,
        patience: float = LOOKUP_SECONDS,
        look_up: Callable[..., AddressInfo] = socket.getaddrinfo,
    ) -> None:
        """``look_up`` is called in threads with getaddrinfo(3)'s host, port, family and socket type."""
        self._reactor = reactor
        self._threads = Threads(reactor, name, most)
        self._at_once = at_once
        self._most = most
        self._patience = patience
        self._look_up = look_up
        self._searches: dict[tuple[str, int, int], _Search] = {}
        self._queue: deque[_Search] = deque()
        self._running = 0
        self._hanging = 0

    def look_up(
        self, host: str, family: int = socket.AF_UNSPEC, kind: int = socket.SOCK_STREAM
    ) -> Deferred[AddressInfo]:
        """Look up a name: fire with what getaddrinfo(3) returns, with port 0, or fail with what it raises.

        Cancelling only stops the waiting.
        """
        key = host, family, kind
        search = self._searches.get(key)
        if search is None:
            search = self._searches[key] = _Search(key)
            self._queue.append(search)
        waiter = search.waiters.wait()
        self._begin_some()
        return waiter

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        family = _FAMILIES.get(frozenset(addressTypes or ()), socket.AF_UNSPEC)
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def end(answers: AddressInfo | Failure) -> None:
            for found, _, _, _, where in () if isinstance(answers, Failure) else answers:
                if found in _KINDS:
                    address = _KINDS[found](transportSemantics, where[0], portNumber, *where[2:])
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        resolution.looking = self.look_up(hostName, family, _TYPES[transportSemantics]).addBoth(end)
        return resolution

    def _begin_some(self) -> None:
        while self._queue and self._running < self._at_once and self._running + self._hanging < self._most:
            search = self._queue.popleft()
            if not search.waiters:
                del self._searches[search.key]
                continue
            self._running += 1
            host, family, kind = search.key
            late = self._reactor.callLater(self._patience, self._write_off, search)
            self._threads.run(self._look_up, host, 0, family, kind).addBoth(self._ended, search, late)

    def _write_off(self, search: _Search) -> None:
        search.hangs = True
        self._running -= 1
        self._hanging += 1
        if self._hanging == self._most:
            log.error(
                "{count} look-ups of host names hang: no other name can be looked up until one ends; see to the name "
                "servers of /etc/resolv.conf",
                count=self._hanging,
            )
        self._begin_some()

    def _ended(self, answers: AddressInfo | Failure, search: _Search, late: Any) -> None:
        if search.hangs:
            self._hanging -= 1
        else:
            late.cancel()
            self._running -= 1
        del self._searches[search.key]
        search.waiters.wake(answers)
        self._begin_some()


@implementer(IHostResolution)
class _Resolution:
    looking: Deferred[Any] | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        if self.looking is not None:
            self.looking.cancel()


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects the addresses that a resolver finds."""

    def __init__(self) -> None:
        self.found: list[IPv4Address | IPv6Address] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:  # noqa: N802, N803
        pass

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        self.found.append(address)

    def resolutionComplete(self) -> None:  # noqa: N802
        if not self.complete.called:
            self.complete.callback(None)


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class Resolved:
    """The reactor, with a resolver that returns the given addresses: for an endpoint that must connect to these."""

    def __init__(self, reactor: Any, addresses: Sequence[IAddress]) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self.nameResolver = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:  # noqa: N802
        raise NotImplementedError("the addresses are known")

    def resolveHostName(self, resolutionReceiver: IResolutionReceiver, *_: Any, **__: Any) -> Any:  # noqa: N802, N803
        for address in self._addresses:
            resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()


async def addresses(
    reactor: Any, host: str, port: int, patience: float, scope: Scope | None = None
) -> list[IPv4Address | IPv6Address]:
    """Return the addresses that the reactor's resolver finds for ``host``; an address is returned as it is.

    The list is empty for a name that has none. Raises TimedOut after ``patience`` seconds.
    """
    with suppress(ValueError):
        kind = IPv4Address if ip_address(host).version == 4 else IPv6Address
        return [kind("TCP", host, port)]
    told = _Addresses()
    resolution = reactor.nameResolver.resolveHostName(told, host, portNumber=port)
    told.complete.addTimeout(patience, reactor)
    try:
        await told.complete
    except NoAnswer:
        raise TimedOut(late(host, patience), scope=scope) from None
    finally:
        with suppress(AttributeError, NotImplementedError):  # Twisted's own resolver cannot be cancelled.
            resolution.cancel()
    return told.found


def late(host: str, patience: float) -> str:
    """Return the message for a name that was not looked up in time."""
    return f"the name {host} was not looked up within {patience:g} s: the name server does not answer"
