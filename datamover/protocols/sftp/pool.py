"""The one connection that all transfers of a destination share: made when it is needed, and anew when it is lost."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover import errors
from datamover.concurrency.threads import Threads
from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError, Scope
from datamover.protocols.base import UNCONNECTED, Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.place import PlaceSettings
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import Link, LinkSettings
from datamover.protocols.sftp.orders import Orders
from datamover.protocols.sftp.place import SftpPlace

_ANNOUNCED = {
    messages.POSIX_RENAME: (Ability.REPLACE_ATOMICALLY,),
    messages.HARD_LINK: (Ability.KEEP_OLD,),
    messages.FSYNC: (Ability.FLUSH,),
    messages.STATVFS: (Ability.FREE_SPACE,),
}
"""SFTP extension -> the abilities that need it (OpenSSH's PROTOCOL)."""
_UNPROVEN = Lack(Ability.WRITE_WIDE, "no other order is known to be safe there")


class SftpPool:
    """``protocols.place.DestinationPool`` of one account on one server."""

    def __init__(self, root: str, server: LinkSettings, settings: PlaceSettings, reactor: Any) -> None:
        self._server = server
        self._reactor = reactor
        # One thread for all attempts: if the disk with the secrets hangs, only this thread is blocked.
        self._threads = Threads(reactor, f"destination-{settings.name}", 1)
        self._links: list[Link] = []
        """The last one is in use; those before it are lost, but their sockets may still be open."""
        self._closed = False
        self._attempt: Deferred[None] | None = None
        self._made: Waiters[Link | DataMoverError] = Waiters(self._give_up)
        self._lacks = Lacks(reactor.seconds)
        orders = Orders(self._lacks)
        self._places = {
            side: SftpPlace(root, server.user, settings, side, self._link, reactor, self._lacks, orders)
            for side in (Scope.SOURCE, Scope.DESTINATION)
        }

    def at(self, side: Scope) -> SftpPlace:
        return self._places[side]

    @property
    def lacks(self) -> Sequence[Lack]:
        """What was learnt, and the extensions that the server does not announce; before a connection all is unknown."""
        learnt = {lack.ability: lack for lack in self._lacks}
        announced = next((link.extensions for link in reversed(self._links) if link.extensions is not None), None)
        for extension, abilities in _ANNOUNCED.items():
            if announced is None or extension not in announced:
                why = UNCONNECTED if announced is None else f"the server has no {extension.decode()}"
                learnt.update({ability: Lack(ability, why) for ability in abilities if ability not in learnt})
        if announced is not None and not self._links[-1].openssh:
            learnt.setdefault(Ability.WRITE_WIDE, _UNPROVEN)
        return [learnt[ability] for ability in Ability if ability in learnt]

    async def connect(self) -> None:
        """Complete when there is a connection that is logged in and has SFTP."""
        await self._places[Scope.DESTINATION].connect()

    @property
    def server(self) -> str:
        return self._server.host

    async def volume(self) -> str | None:
        """Return the number that the server gives the root's file system."""
        return await self._places[Scope.DESTINATION].volume()

    async def close(self) -> None:
        """Close the connection; completes when its socket is closed. Calls in progress raise ConnectionLost."""
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()
        links, self._links = self._links, []
        for link in links:
            await link.close()

    async def _link(self) -> Link:
        """Return the connection, or make one; the attempt ends early only if everyone who waits for it cancels."""
        if self._closed:
            raise errors.ConnectionLost("it was closed while it was in use; the service is stopping")
        if self._links and self._attempt is None and self._links[-1].usable:
            return self._links[-1]
        made = self._made.wait()
        if self._attempt is None:
            self._links = [link for link in self._links if not link.gone]
            self._links.append(Link(self._reactor, self._server, self._threads))
            self._attempt = Deferred.fromCoroutine(self._links[-1].open())
            self._attempt.addBoth(self._attempted)
        link = await made
        if isinstance(link, DataMoverError):
            raise link.copy()
        return link

    def _give_up(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

    def _attempted(self, result: Failure | None) -> None:
        self._attempt = None
        error = None if result is None else result.value
        if isinstance(error, CancelledError):
            self._made.wake(errors.ConnectionLost("the connection was closed while it was made"))
        elif isinstance(error, DataMoverError):
            self._made.wake(error)
        else:
            self._made.wake(result or self._links[-1])
