"""Notifications between processes, through the database, so that they need not wait for their next poll.

A notification is a hint: it may be lost with its connection, so listeners poll as well. The payloads are "work"
(something may be claimed), "stop" (a running transfer is to stop), "ended ID" (a job is terminal) and "notice" (a
notice is to be sent).
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.logger import Logger

log = Logger()

CHANNEL = "datamover"

WORK = "work"
STOP = "stop"
ENDED = "ended"
NOTICE = "notice"


class NotificationSource(Protocol):
    """The part of the database that is used here."""

    async def listen(
        self, channel: str, callback: Callable[[str], None], on_listening: Callable[[], None] | None = None
    ) -> object: ...


def ended(job: int) -> str:
    """Return the payload for a job that has ended."""
    return f"{ENDED} {job}"


class Notifications:
    """Passes notifications on to the subscribers in this process, over one connection."""

    def __init__(self, database: NotificationSource) -> None:
        self._database = database
        self._subscribers: list[Callable[[str], None]] = []

    def subscribe(self, subscriber: Callable[[str], None]) -> Callable[[], None]:
        """Call ``subscriber`` with every payload, and with "" when some may have been missed.

        Returns the function that ends the subscription.
        """
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber) if subscriber in self._subscribers else None

    def start(self) -> Awaitable[object]:
        """Start to listen; completes when listening has begun. It ends with the database's ``close``."""
        return self._database.listen(CHANNEL, self.publish, lambda: self.publish(""))

    def publish(self, word: str) -> None:
        """Call every subscriber in this process."""
        for subscriber in list(self._subscribers):
            try:
                subscriber(word)
            except Exception:  # An error of one subscriber must not keep the others from being called.
                log.failure("a subscriber to notifications raised an error at {word!r}", word=word)
