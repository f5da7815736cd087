"""Notifications: a LISTEN that is issued again whenever its connection was lost.

They only say "look now": what was sent while nobody listened is gone, so whoever listens also looks for itself.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.concurrency.loops import Loop
from datamover.errors import Unavailable
from datamover.postgres.connection import PostgresConnection

log = Logger()

Connect = Callable[[Callable[[str, str], None]], Awaitable[PostgresConnection]]
PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between two attempts to reach the database; the last one from then on."""


async def persist(reactor: Any, attempt: Callable[[], Awaitable[None]]) -> None:
    """Run ``attempt`` again, after a pause, for as long as it raises Unavailable."""
    pauses = iter(PAUSES)
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            pause = next(pauses, PAUSES[-1])
            log.warn("{reason}; trying again in {pause} s", reason=error.message, pause=pause)
        await deferLater(reactor, pause)


class Listening:
    """One channel being listened on; ``Database.listen`` makes it and keeps it running."""

    task: Deferred[Any]
    """The running ``run``."""

    def __init__(
        self,
        reactor: Any,
        connect: Connect,
        channel: str,
        callback: Callable[[str], None],
        on_listening: Callable[[], None] | None,
        loop: Loop,
    ) -> None:
        self._loop = loop
        self._reactor = reactor
        self._connect = connect
        self._channel = channel
        self._callback = callback
        self._on_listening = on_listening
        self.begun: Deferred[None] = Deferred()
        """Fires when listening begins for the first time, or never will."""

    async def close(self) -> None:
        """Stop; completes when the connection is gone."""
        self.task.cancel()
        await self.task

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            await self._loop.start(self._run)
        finally:
            if not self.begun.called:
                self.begun.errback(Unavailable("the database was closed before listening began"))

    async def _run(self) -> None:
        while True:
            await persist(self._reactor, self._listen)
            await deferLater(self._reactor, PAUSES[0])

    async def _listen(self) -> None:
        connection = await self._connect(self._notice)
        try:
            await connection.listen(self._channel)
            self._loop.turned()
            if self._on_listening is not None:
                self._guard(self._on_listening)
            if not self.begun.called:
                self.begun.callback(None)
            await connection.wait_for_end()
        finally:
            connection.close()

    def _notice(self, channel: str, payload: str) -> None:
        self._guard(self._callback, payload)

    def _guard(self, function: Callable[..., None], *arguments: str) -> None:
        try:
            function(*arguments)
        except Exception:  # what the listener does wrong must not end the listening
            log.failure("a listener on {channel} raised", channel=self._channel)
