"""Have calls that find the database away wait for it, so that a start or a short failure refuses none of them."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.errors import NotNow, Unavailable
from datamover.postgres.database import Database

log = Logger()

STARTING = 30.0
"""Seconds that a call waits while the embedded database is made or started."""
AWAY = 5.0
"""Seconds that a call waits for a database that went away, or that datamover does not run."""
PAUSE = 0.1
"""Seconds between two attempts to reach it; one attempt serves all calls that wait."""


class Availability:
    """Looks for the database while calls wait for it."""

    def __init__(self, database: Database, clock: IReactorTime, *, embedded: bool) -> None:
        self._database = database
        self._clock = clock
        self._embedded = embedded
        self._waiting: Waiters[bool] = Waiters()
        self._looking = False

    async def back(self, began: float) -> bool:
        """Return True once the database answers, False if it does not in the time of a call that began at ``began``."""
        starting = self._embedded and not self._database.ready
        left = began + (STARTING if starting else AWAY) - self._clock.seconds()
        if left <= 0:
            return False
        waiter = self._waiting.wait().addTimeout(left, self._clock, onTimeoutCancel=lambda *_: False)
        if not self._looking:
            self._looking = True
            Deferred.fromCoroutine(self._look()).addErrback(_failed)
        return await waiter

    async def _look(self) -> None:
        found = False
        try:
            while self._waiting and not found:
                await deferLater(self._clock, PAUSE)
                found = await self._answers()
        finally:
            self._looking = False
            self._waiting.wake(found)

    async def _answers(self) -> bool:
        try:
            await self._database.read("SELECT 1")
        except Unavailable as error:
            return isinstance(error, NotNow)
        return True


def _failed(failure: Failure) -> None:
    log.failure("looking for the database failed", failure)
