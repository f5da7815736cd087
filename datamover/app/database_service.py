"""The service that opens the database in the background and closes it after everything that uses it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from datamover.concurrency.stopping import StoppableService
from datamover.errors import StartError, Unavailable
from datamover.jobs.notifications import Notifications
from datamover.postgres.database import Database

log = Logger()

STOPPING = 2.0
"""Seconds of the stop that are kept for the embedded PostgreSQL."""


class EmbeddedServer(Protocol):
    """The embedded PostgreSQL."""

    async def stop(self, within: float) -> None: ...


class DatabaseService(StoppableService):
    """Opens the database, brings its tables up to date and listens for notifications; retries without end.

    Until the database is open, every call of its users raises Unavailable. ``give_up`` is called with a sentence for
    an error that no retry mends (StartError).
    """

    what = "the database"
    needs = 3.0

    def __init__(
        self,
        database: Database,
        prepare: Callable[[Database], Awaitable[None]],
        notifications: Notifications,
        server: EmbeddedServer | None,
        give_up: Callable[[str], None],
    ) -> None:
        """``prepare`` brings the tables up to date and checks the key."""
        self._database = database
        self._prepare = prepare
        self._notifications = notifications
        self._server = server
        self._give_up = give_up
        self._opening: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802
        super().startService()
        self._opening = Deferred.fromCoroutine(self._open())
        self._opening.addErrback(lambda failure: log.failure("opening the database failed", failure))

    async def _open(self) -> None:
        self._database.start(self._prepare)
        try:
            await self._database.opened()
            log.info("the database is open")
            await self._notifications.start()
        except StartError as error:
            self._give_up(error.message)
        except (CancelledError, Unavailable):
            return  # The service is stopping.

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        await self.deadline.earlier(STOPPING).ends(self._database.close(), "the connections to the database")
        if self._server is not None:
            await self._server.stop(self.deadline.left)
