"""The connections of one site, limited in all and for each address."""

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Site

from datamover.api.http.channel import Channel
from datamover.api.http.pace import ConnectionTimeouts
from datamover.api.http.turns import Turns
from datamover.bounds.door import RESERVED_CONNECTIONS
from datamover.concurrency.fair_share import FairShare
from datamover.config.schema import Limits
from datamover.security.login_throttle import client_network, is_local

CROWDED = "Too many connections: close some of yours, or try again in a while ([limits] connections)."


class QuietSite(Site):
    """A site without an access log: jobs and errors are logged where they occur."""

    noisy = False
    protocol = Channel  # type: ignore[assignment] # without HTTP/2, which Twisted's own would offer

    def __init__(self, root: Resource, limits: Callable[[], Limits], turns: Turns, **keywords: Any) -> None:
        super().__init__(root, **keywords)  # type: ignore[no-untyped-call]
        self.pace = ConnectionTimeouts()
        self.turns = turns
        self._connections = FairShare(lambda: limits().connections, lambda: limits().connections_per_address)
        self._refused = 0

    def buildProtocol(self, addr: Any) -> Channel | None:  # type: ignore[override] # noqa: N802 - Twisted's
        """Return the channel for a connection. One beyond the limit is answered 503, or closed if many are already."""
        address = getattr(addr, "host", "")
        who = client_network(address)
        taken = self._connections.take(who, beyond=RESERVED_CONNECTIONS if is_local(address) else 0)
        if not taken and self._refused >= RESERVED_CONNECTIONS:
            return None
        channel: Channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        if not taken:
            self._refused += 1
            channel.crowded = CROWDED
        channel.who = who
        channel.left = partial(self._left, who, taken)
        return channel

    def _left(self, who: str, taken: bool) -> None:
        if taken:
            self._connections.give(who)
        else:
            self._refused -= 1

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's
        return "datamover"

    def log(self, request: Any) -> None:
        pass
