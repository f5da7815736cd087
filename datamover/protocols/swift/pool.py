"""The connections to the service of one destination, and what was learnt of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from datamover.concurrency.threads import Threads
from datamover.errors import Scope
from datamover.protocols.base import Ability, Lack
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.streams import Streams
from datamover.protocols.lacks import Lacks
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.object_store.upload import Tools
from datamover.protocols.swift.container import Container
from datamover.protocols.swift.large_objects import LargeObjects
from datamover.protocols.swift.login.session import Session
from datamover.protocols.swift.origin import SwiftOrigin
from datamover.protocols.swift.place import SwiftPlace
from datamover.protocols.swift.refusals import SwiftRefusals
from datamover.protocols.swift.service import SwiftService
from datamover.protocols.swift.writer import ObjectWriter

STREAMS = 8
"""Connections over which one large object may be read."""


@dataclass(frozen=True, slots=True)
class SwiftStore:
    """Where the objects of one destination are stored."""

    container: str
    prefix: str
    segments: str
    """The container of segments."""
    part_size: int
    """Bytes of the largest file that becomes a plain object, and of a segment of a larger file."""


class SwiftPool:
    """``protocols.place.DestinationPool`` of one prefix of a container."""

    def __init__(
        self,
        agent: PolicyAgent,
        session: Session,
        stored: SwiftStore,
        name: str,
        abilities: frozenset[Ability],
        threads: Threads,
        reactor: Any,
    ) -> None:
        """``threads`` are closed with the pool."""
        self._agent = agent
        self._session = session
        self._threads = threads
        self._lacks = Lacks(reactor.seconds, frozenset(Ability) - abilities)
        self._conditions = Conditions(reactor.seconds)
        service = SwiftService(agent, session, reactor)
        streams = Streams(reactor, STREAMS, agent.busy)
        self._places = {}
        for side in (Scope.SOURCE, Scope.DESTINATION):
            refusals = SwiftRefusals(name, side)
            writer = ObjectWriter(service, refusals, stored.container, threads)
            large = LargeObjects(service, stored.segments, writer, refusals, largest_plain=stored.part_size)
            container = Container(
                service,
                stored.container,
                stored.prefix,
                refusals,
                writer,
                large,
                self._conditions,
            )
            origin = partial(SwiftOrigin, container, clock=reactor, streams=streams)
            tools = Tools(container, self._conditions, stored.part_size, origin, reactor)
            self._places[side] = SwiftPlace(container, origin, tools, self._lacks)

    def at(self, side: Scope) -> SwiftPlace:
        return self._places[side]

    @property
    def lacks(self) -> Iterable[Lack]:
        return self._lacks

    async def connect(self) -> None:
        """Ask for the free space, which needs a login, and find out whether the service honours conditions."""
        place = self._places[Scope.DESTINATION]
        await place.free()
        await self._conditions.probe(place.container)

    @property
    def server(self) -> str:
        return self._session.host

    async def volume(self) -> str:
        """Return the URL of the account if that has a quota, which all its containers share, else the container's."""
        return await self._places[Scope.DESTINATION].container.volume()

    async def close(self) -> None:
        self._session.close()
        await self._agent.close()
        await self._threads.close()
