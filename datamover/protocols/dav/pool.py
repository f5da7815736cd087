"""The connections to the server of one destination, and what was learnt of it."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from datamover.concurrency.threads import Threads
from datamover.errors import Scope
from datamover.protocols.base import Ability, Lack
from datamover.protocols.dav.address import DavAddress, cloud_of
from datamover.protocols.dav.chunks import Chunking, DavStore
from datamover.protocols.dav.files import DavFiles
from datamover.protocols.dav.habits import Habits
from datamover.protocols.dav.login import DavLogin, LoginFiles
from datamover.protocols.dav.place import DavPlace
from datamover.protocols.dav.refusals import DavRefusals
from datamover.protocols.dav.resources import DavOrigin, DavResources
from datamover.protocols.dav.service import DavService, Learnt
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.streams import Streams
from datamover.protocols.lacks import Lacks
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.object_store.upload import Tools

STREAMS = 8
"""Connections over which one large file may be read."""

_WHOLE = Lack(Ability.RESUME, "the server takes files whole: one that broke off is sent from its beginning")


class DavPool:
    """``protocols.place.DestinationPool`` of one collection."""

    def __init__(
        self,
        agent: PolicyAgent,
        address: DavAddress,
        login: LoginFiles,
        part_size: int,
        name: str,
        abilities: frozenset[Ability],
        reactor: Any,
    ) -> None:
        self._agent = agent
        # Two: if the disk with the secrets hangs, digests are still computed.
        self._threads = Threads(reactor, f"destination-{name}", 2)
        self.server = address.root.authority
        conditions = Conditions(reactor.seconds)
        service = DavService(agent, address, DavLogin(login, self._threads, reactor.seconds), reactor)
        self._chunking = Chunking(service, cloud_of(address, login.username), DavRefusals(name, Scope.DESTINATION))
        self._lacks = _DavLacks(Lacks(reactor.seconds), self._chunking, frozenset(Ability) - abilities)
        learnt = Learnt(self._lacks.learnt)
        streams = Streams(reactor, STREAMS, agent.busy)
        self._habits = Habits(
            DavFiles(service, DavRefusals(name, Scope.DESTINATION), learnt), conditions, reactor.seconds
        )
        self._places = {}
        for side in (Scope.SOURCE, Scope.DESTINATION):
            files = DavFiles(service, DavRefusals(name, side), learnt)
            origin = partial(DavOrigin, DavResources(files), clock=reactor, streams=streams)
            store = DavStore(files, self._chunking, reactor)
            tools = Tools(store, conditions, part_size, origin, reactor)
            self._places[side] = DavPlace(files, store, self._chunking, self._habits, tools, origin, self._lacks)

    @property
    def lacks(self) -> Sequence[Lack]:
        return list(self._lacks)

    def at(self, side: Scope) -> DavPlace:
        return self._places[side]

    async def connect(self) -> None:
        """Look at the root, which needs a login, and find out what the server supports."""
        place = self._places[Scope.DESTINATION]
        await place.inspect("")
        await place.free()
        await self._chunking.ask()
        await self._habits.learn()

    async def volume(self) -> str | None:
        """Return the user at Nextcloud and ownCloud, whose quotas are by user; None for other servers."""
        cloud = self._chunking.cloud
        return None if cloud is None else f"{cloud.base} {cloud.user}"

    async def close(self) -> None:
        await self._agent.close()
        await self._threads.close()


class _DavLacks:
    """The abilities that one server lacks: those that the protocol does not declare, and those found missing."""

    def __init__(self, learnt: Lacks, chunking: Chunking, undeclared: frozenset[Ability]) -> None:
        self.learnt = learnt
        self._chunking = chunking
        self._undeclared = undeclared

    def __contains__(self, ability: object) -> bool:
        if ability is Ability.RESUME:
            return self._chunking.taken is False
        return ability in self._undeclared or ability in self.learnt

    def __iter__(self) -> Iterator[Lack]:
        if not self._chunking.taken:
            yield _WHOLE
        yield from self.learnt
