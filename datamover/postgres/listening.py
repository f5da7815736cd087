"""Notifications: a LISTEN that is issued again whenever its connection is lost.

A notification is only a hint to poll now: those that are sent while nobody listens are lost, so listeners poll as well.
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
"""Seconds between two attempts to reach the database, one after the other; the last repeats."""


async def persist(reactor: Any, attempt: Callable[[], Awaitable[None]]) -> None:
    """Run ``attempt``, again after a pause as long as it raises Unavailable; raises any other error of it."""
    pauses = iter(PAUSES)
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            pause = next(pauses, PAUSES[-1])
            log.warn("{reason}; trying again in {pause} s", reason=error.full, pause=pause)
        await deferLater(reactor, pause)


class Listening:
    """Listens on one channel; made and kept running by ``Database.listen``."""

    task: Deferred[Any]
    """The Deferred of ``run``."""

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
        """Fires when listening begins for the first time; fails if it never will."""

    async def close(self) -> None:
        """Stop listening; completes when the connection is closed."""
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
        except Exception:  # An error in the callback must not end the listening.
            log.failure("the listener on channel {channel} raised an error", channel=self._channel)
