"""The logins on the server of one destination, and what was learnt of it."""

from collections.abc import Sequence
from typing import Any

from datamover.concurrency.threads import Threads
from datamover.errors import Scope
from datamover.protocols.base import Ability, Lack
from datamover.protocols.ftp.client.login import Server
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.client.sessions import Sessions
from datamover.protocols.ftp.place import FtpPlace
from datamover.protocols.lacks import Lacks
from datamover.protocols.place import PlaceSettings


class FtpPool:
    """``protocols.place.DestinationPool`` of one login on one server."""

    def __init__(
        self, root: str, server: Server, settings: PlaceSettings, abilities: frozenset[Ability], reactor: Any
    ) -> None:
        # One thread for all logins: if the disk with the secrets hangs, only this thread is blocked.
        self._threads = Threads(reactor, f"destination-{settings.name}", 1)
        self._lacks = Lacks(reactor.seconds, frozenset(Ability) - abilities)
        self._sessions = Sessions(reactor, server, self._threads, self._announced)
        directories: dict[str, tuple[float, str]] = {}
        kept: set[str] = set()
        self._places = {
            side: FtpPlace(root, server.user, settings, side, self._sessions, reactor, self._lacks, directories, kept)
            for side in (Scope.SOURCE, Scope.DESTINATION)
        }

    def at(self, side: Scope) -> FtpPlace:
        return self._places[side]

    @property
    def lacks(self) -> Sequence[Lack]:
        return list(self._lacks)

    async def connect(self) -> None:
        """Complete when there is a connection that is logged in."""
        await self._places[Scope.DESTINATION].connect()

    async def close(self) -> None:
        """Close every connection; completes when their sockets are closed. Calls in progress raise ConnectionLost."""
        await self._sessions.close()
        await self._threads.close()

    def _announced(self, session: FtpSession) -> None:
        """Record the lack of abilities that a server would have to announce (RFC 2389)."""
        if "AVBL" not in session.features:
            self._lacks.learn(Ability.FREE_SPACE, "the server does not announce AVBL")
