"""The engine processes as a part of the running service: kept running, so many as are asked for."""

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from itertools import chain, repeat
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.concurrency.loops import Loop, Loops
from datamover.concurrency.stopping import StoppableService
from datamover.config.schema import Config
from datamover.engine.share import ProcessShare
from datamover.errors import StartError, Unavailable
from datamover.postgres.listening import persist
from datamover.processes.child import Child
from datamover.processes.messages import ChildConfig, StatusMessage
from datamover.processes.metrics_buffer import Counts, count

log = Logger()

PAUSES = (0.1, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds until a process that ended by itself is replaced; the last one from then on."""
STEADY = 60.0
"""Seconds after which the pauses begin anew."""

Bury = Callable[[str], Awaitable[tuple[int, bool]]]
"""Puts back what a node held whose process is gone; returns how many groups, and whether it took nothing new."""


class EngineProcesses(StoppableService):
    """Starts the processes when ``opened`` completes: the tables are made, and who cannot run has said so."""

    what = "the engine processes"
    needs = 17.0

    def __init__(
        self,
        reactor: Any,
        settings: Callable[[], Config],
        *,
        opened: Callable[[], Awaitable[None]],
        bury: Bury,
        counts: Counts,
        ended: Callable[[], None],
        logged: Callable[[int, Mapping[str, Any]], None],
        give_up: Callable[[str], None],
        loops: Loops,
    ) -> None:
        """``settings`` tells those in force when a process starts.

        ``counts`` is told what all of them count, ``ended`` of each that ended by itself.

        ``logged`` takes a process id and a line of its log; ``give_up`` a sentence, where none can ever work.
        """
        self._reactor = reactor
        self._settings = settings
        self._opened = opened
        self._bury = bury
        self._counts = counts
        self._ended = ended
        self._logged = logged
        self._give_up = give_up
        self._children: dict[int, Child] = {}
        self._renewed: set[Child] = set()
        self._loops = loops
        self._keeping: list[Loop] = []
        self._has_worked = False

    @property
    def working(self) -> bool:
        """Whether every process takes work."""
        return len(self._children) == self._wanted and all(child.working for child in self._children.values())

    @property
    def troubles(self) -> tuple[str, ...]:
        """What loops of them do not turn, in words."""
        return tuple(
            f"engine process {number + 1}: {trouble}"
            for number, child in sorted(self._children.items())
            for trouble in child.troubles
        )

    @property
    def pids(self) -> Mapping[str, int]:
        """The processes that run, by their number, from 1."""
        return {str(number + 1): child.pid for number, child in sorted(self._children.items())}

    @property
    def _wanted(self) -> int:
        return self._settings().service.engine_processes

    def startService(self) -> None:  # noqa: N802
        super().startService()
        for number in range(self._wanted):
            loop = self._loops.loop("processes", bound=None)
            loop.start(partial(self._keep, number, loop))
            self._keeping.append(loop)

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def renew(self) -> None:
        """Have each process hand back its work, and start anew by the settings in force."""
        for child in self._children.values():
            self._renewed.add(child)
            child.end()

    async def _stop(self) -> None:
        keeping, self._keeping = self._keeping, []
        await DeferredList([loop.stop() for loop in keeping])

    async def _keep(self, number: int, loop: Loop) -> None:
        """Have one process run until cancelled; completes when it has handed back its work and is gone."""
        try:
            await self._opened()
        except (StartError, Unavailable):
            return  # The service stops before it has begun; whoever opens the database says why.
        pauses = _pauses()
        while True:
            began = self._reactor.seconds()
            try:
                child = await self._run(number, loop)
            except OSError as trouble:
                pause = next(pauses)
                log.warn(
                    "no engine process can be started: {reason}; trying again in {pause} s",
                    reason=trouble.strerror,
                    pause=pause,
                )
            else:
                if child in self._renewed:
                    self._renewed.discard(child)
                    continue
                if self._reactor.seconds() - began > STEADY:
                    pauses = _pauses()
                pause = next(pauses)
                if not await self._replace(child, pause):
                    return
            await deferLater(self._reactor, pause)

    async def _replace(self, child: Child, pause: float) -> bool:
        """Put back what a process held that ended by itself; tell whether there is to be another."""
        self._ended()
        log.error(
            "engine process {process} {how}: what it held is put back, and another is started in {pause} s",
            process=child.pid,
            how=child.how,
            pause=pause,
        )
        drained = await self._put_back(child)
        if drained:
            log.info("engine process {process} was draining: none is started in its place", process=child.pid)
        return not drained

    async def _run(self, number: int, loop: Loop) -> Child:
        """Run one process to its end, and return it; cancelling has it end in order."""
        brief = ChildConfig(str(uuid.uuid4()), ProcessShare(number, self._wanted), self._settings())
        child = self._children[number] = Child(self._reactor, brief, hear=self._hear, logged=self._logged)
        loop.turned()
        try:
            await child.ended()
        except CancelledError:
            child.end()
            await child.ended()
            if not child.clean:
                await self._put_back_now(child)
            raise
        finally:
            del self._children[number]
        return child

    async def _put_back(self, child: Child) -> bool:
        """Put back what a process that ended held, as soon as the database answers; tell whether it was draining."""
        drained = False

        async def bury() -> None:
            nonlocal drained
            groups, drained = await self._bury(child.node)
            self._counts.taken_over(groups)

        await persist(self._reactor, bury)
        return drained

    async def _put_back_now(self, child: Child) -> None:
        try:
            groups, _ = await self._bury(child.node)
        except Unavailable as error:
            log.warn("leases are left to run out: {error}", error=error.message)
        else:
            self._counts.taken_over(groups)

    def _hear(self, word: StatusMessage) -> None:
        self._has_worked |= word.working
        count(self._counts, word.counted)
        if word.given_up is None:
            return
        if self._has_worked:
            log.error("an engine process cannot run: {sentence}", sentence=word.given_up)
        else:
            self._give_up(word.given_up)


def _pauses() -> Iterator[float]:
    return chain(PAUSES, repeat(PAUSES[-1]))
