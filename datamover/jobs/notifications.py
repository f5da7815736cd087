"""What processes tell each other through the database, so that nobody has to wait for the next poll.

A hint, never a fact: a word may be lost with the connection that would have brought it, so whoever listens also polls.
The words: "work" (something may be claimed), "stop" (a running transfer is to stop), "ended ID" (a job is terminal),
"notice" (somebody is to be told of an end).
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
    """What of the database is needed here."""

    async def listen(
        self, channel: str, callback: Callable[[str], None], on_listening: Callable[[], None] | None = None
    ) -> object: ...


def ended(job: int) -> str:
    """Return the word that tells of a job's end."""
    return f"{ENDED} {job}"


class Notifications:
    """One connection that listens, for everyone in this process."""

    def __init__(self, database: NotificationSource) -> None:
        self._database = database
        self._hearers: list[Callable[[str], None]] = []

    def subscribe(self, hearer: Callable[[str], None]) -> Callable[[], None]:
        """Call ``hearer`` with every word, and with "" when words may have been missed; return what ends that."""
        self._hearers.append(hearer)
        return lambda: self._hearers.remove(hearer) if hearer in self._hearers else None

    def start(self) -> Awaitable[object]:
        """Begin to listen; completes when the database was asked to. Ends with the database's ``close``."""
        return self._database.listen(CHANNEL, self.publish, lambda: self.publish(""))

    def publish(self, word: str) -> None:
        """Have everyone in this process hear a word."""
        for hearer in list(self._hearers):
            try:
                hearer(word)
            except Exception:  # What one does wrong must not keep the others from hearing.
                log.failure("who heard {word} raised", word=word)
