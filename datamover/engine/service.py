"""The engine as a part of the running service: begins when the database is open, ends by handing back its work."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from datamover.concurrency.loops import Loops
from datamover.concurrency.stopping import StoppableService
from datamover.engine.dispatcher import Dispatcher
from datamover.engine.groups.staging import Staging
from datamover.engine.recorder import Recorder
from datamover.errors import StartError, Unavailable
from datamover.notices.notifier import Notifier

GRACE = 5.0
"""Seconds that running transfers have to reach a checkpoint when the service stops."""
RECORDING, SWEEPING = 0.5, 0.5
"""Seconds that are left for writing what became of them, and for removing what is staged."""


class EngineService(StoppableService):
    """Runs one dispatcher; ``opened`` completes when the database may be used."""

    what = "the engine"
    needs = 8.0

    def __init__(
        self,
        *,
        opened: Callable[[], Awaitable[None]],
        staging: Staging,
        recorder: Recorder,
        dispatcher: Callable[[], Awaitable[Dispatcher]],
        give_up: Callable[[str], None],
        loops: Loops,
    ) -> None:
        """``dispatcher`` makes one, with what the database knows."""
        self._loop = loops.loop("engine", bound=None)
        self._opened = opened
        self._staging = staging
        self._recorder = recorder
        self._make = dispatcher
        self._give_up = give_up
        self._staged = False
        self._dispatcher: Dispatcher | None = None
        self._recording: Deferred[None] | None = None

    @property
    def working(self) -> bool:
        """Whether work is taken."""
        return self._dispatcher is not None and self._dispatcher.running

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._loop.start(self._start)

    async def _start(self) -> None:
        try:
            if not self._staged:
                await self._staging.open()
                self._staged = True
            await self._opened()
            self._dispatcher = await self._make()
        except StartError as error:
            self._give_up(error.message)
        except Unavailable:
            return  # The service stops before it has begun.
        else:
            self._recording = Deferred.fromCoroutine(self._recorder.run())
            self._dispatcher.start()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._loop.stop()
        deadline = self.deadline
        if self._dispatcher is not None:
            until = deadline.earlier(RECORDING + SWEEPING)
            await until.ends(self._dispatcher.stop(GRACE, until), "the transfers that run")
        self._recorder.stop()
        if self._recording is not None:
            await deadline.earlier(SWEEPING).ends(self._recording, "what is written of transfers")
        await deadline.ends(self._staging.close(), "the staging directory")


class NoticeService(StoppableService):
    """The notifier as a part of the running service; ``opened`` completes when the database may be used."""

    what = "the notices"
    needs = 3.0

    def __init__(self, notifier: Notifier, opened: Callable[[], Awaitable[None]], loops: Loops) -> None:
        self._notifier = notifier
        self._opened = opened
        self._loop = loops.loop("engine", bound=None)

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._loop.start(self._start)

    async def _start(self) -> None:
        try:
            await self._opened()
        except (StartError, Unavailable):
            return  # The service stops before it has begun; whoever opens the database says why.
        self._notifier.start()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._loop.stop()
        await self._notifier.stop()
