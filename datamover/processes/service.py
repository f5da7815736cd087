"""The service that keeps the configured number of engine processes running."""

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
"""Seconds before a process that ended by itself is replaced, one after the other; the last repeats."""
STEADY = 60.0
"""Seconds that a process must have run for the pauses to start over."""

ReleaseNode = Callable[[str], Awaitable[tuple[int, bool]]]
"""Puts the work of a dead node back in the queue; returns the number of groups and whether the node was draining."""


class EngineProcesses(StoppableService):
    """Starts the processes when ``opened`` completes: by then the tables exist, and the parent itself can run."""

    what = "the engine processes"
    needs = 17.0

    def __init__(
        self,
        reactor: Any,
        settings: Callable[[], Config],
        *,
        opened: Callable[[], Awaitable[None]],
        release_node: ReleaseNode,
        counts: Counts,
        ended: Callable[[], None],
        logged: Callable[[int, Mapping[str, Any]], None],
        give_up: Callable[[str], None],
        loops: Loops,
    ) -> None:
        """``settings`` returns the settings in force, for each process that starts.

        ``counts`` receives what the processes count; ``ended`` is called for each that ended by itself; ``logged`` is
        called with a process id and a line of its log; ``give_up`` with a sentence, when no process can ever work.
        """
        self._reactor = reactor
        self._settings = settings
        self._opened = opened
        self._release_node = release_node
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
        """A sentence for each loop of theirs that does not turn."""
        return tuple(
            f"engine process {number + 1}: {trouble}"
            for number, child in sorted(self._children.items())
            for trouble in child.troubles
        )

    @property
    def pids(self) -> Mapping[str, int]:
        """The ids of the running processes, by their number, counted from 1."""
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
        """Replace each process by one with the settings in force; each hands back its work first."""
        for child in self._children.values():
            self._renewed.add(child)
            child.end()

    async def _stop(self) -> None:
        keeping, self._keeping = self._keeping, []
        await DeferredList([loop.stop() for loop in keeping])

    async def _keep(self, number: int, loop: Loop) -> None:
        """Keep one process running until cancelled; completes when it has handed back its work and exited."""
        try:
            await self._opened()
        except (StartError, Unavailable):
            return  # The service stops before it has started; what opens the database reports why.
        pauses = _pauses()
        while True:
            began = self._reactor.seconds()
            try:
                child = await self._run(number, loop)
            except OSError as trouble:
                pause = next(pauses)
                log.warn(
                    "an engine process could not be started: {reason}; trying again in {pause} s",
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
        """Put back the work of a process that ended by itself; return whether to start another."""
        self._ended()
        log.error(
            "engine process {process} {how}: its work goes back to the queue; another process starts in {pause} s",
            process=child.pid,
            how=child.how,
            pause=pause,
        )
        drained = await self._put_back(child)
        if drained:
            log.info("engine process {process} was draining: it is not replaced", process=child.pid)
        return not drained

    async def _run(self, number: int, loop: Loop) -> Child:
        """Run one process and return it when it has ended; cancelling stops it in order."""
        config = ChildConfig(str(uuid.uuid4()), ProcessShare(number, self._wanted), self._settings())
        child = Child(self._reactor, config, on_status=self._receive, on_log=self._logged)
        self._children[number] = child
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
        """Put back the work of a process that ended, when the database answers; return whether it was draining."""
        drained = False

        async def release() -> None:
            nonlocal drained
            groups, drained = await self._release_node(child.node)
            self._counts.taken_over(groups)

        await persist(self._reactor, release)
        return drained

    async def _put_back_now(self, child: Child) -> None:
        try:
            groups, _ = await self._release_node(child.node)
        except Unavailable as error:
            log.warn(
                "engine process {process}: its leases were not released and run out by themselves: {error}",
                process=child.pid,
                error=error.full,
            )
        else:
            self._counts.taken_over(groups)

    def _receive(self, status: StatusMessage) -> None:
        self._has_worked |= status.working
        count(self._counts, status.counted)
        if status.given_up is None:
            return
        if self._has_worked:
            log.error("an engine process cannot run: {sentence}", sentence=status.given_up)
        else:
            self._give_up(status.given_up)


def _pauses() -> Iterator[float]:
    return chain(PAUSES, repeat(PAUSES[-1]))
