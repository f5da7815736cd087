"""The engine as a part of the running service: begins when the database is open, ends by handing back its work."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from datamover.engine.dispatcher import Dispatcher
from datamover.engine.notifier import Notifier
from datamover.engine.recorder import Recorder
from datamover.engine.staging import Staging
from datamover.errors import StartError, Unavailable
from datamover.stopping import Part

log = Logger()

GRACE = 5.0
"""Seconds that running transfers have to reach a checkpoint when the service stops."""
RECORDING, SWEEPING = 0.5, 0.5
"""Seconds that are left for writing what became of them, and for removing what is staged."""


class EngineService(Part):
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
    ) -> None:
        """``dispatcher`` makes one, with what the database knows."""
        self._opened = opened
        self._staging = staging
        self._recorder = recorder
        self._make = dispatcher
        self._give_up = give_up
        self._dispatcher: Dispatcher | None = None
        self._recording: Deferred[None] | None = None
        self._starting: Deferred[None] | None = None

    @property
    def working(self) -> bool:
        """Whether work is taken."""
        return self._dispatcher is not None and self._dispatcher.running

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: log.failure("the engine does not run", failure))

    async def _start(self) -> None:
        try:
            await self._staging.open()
            await self._opened()
            self._dispatcher = await self._make()
        except StartError as error:
            self._give_up(error.message)
        except (CancelledError, Unavailable):
            return  # The service stops before it has begun.
        else:
            self._recording = Deferred.fromCoroutine(self._recorder.run())
            self._dispatcher.start()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await starting
        deadline = self.deadline
        if self._dispatcher is not None:
            until = deadline.earlier(RECORDING + SWEEPING)
            await until.ends(self._dispatcher.stop(GRACE, until), "the transfers that run")
        self._recorder.stop()
        if self._recording is not None:
            await deadline.earlier(SWEEPING).ends(self._recording, "what is written of transfers")
        await deadline.ends(self._staging.close(), "the staging directory")


class NoticeService(Part):
    """The notifier as a part of the running service; ``opened`` completes when the database may be used."""

    what = "the notices"
    needs = 3.0

    def __init__(self, notifier: Notifier, opened: Callable[[], Awaitable[None]]) -> None:
        self._notifier = notifier
        self._opened = opened
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: log.failure("notices are not sent", failure))

    async def _start(self) -> None:
        try:
            await self._opened()
        except (CancelledError, StartError, Unavailable):
            return  # The service stops before it has begun; whoever opens the database says why.
        self._notifier.start()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await starting
        await self._notifier.stop()
