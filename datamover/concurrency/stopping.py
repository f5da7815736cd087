"""Stopping a process within one deadline, which each service is given in turn.

What has not ended by its deadline is logged and no longer waited for. Nothing is lost by that: leases run out, and
everything that was acknowledged is on disk.
"""

import os
import signal
from collections.abc import Awaitable
from math import inf
from threading import Timer
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.pending import pending

log = Logger()

WITHIN = 23.0
"""Seconds that a stop may take."""
MARGIN = 2.0
"""Seconds after the stop should have ended until the process exits by force; after as many again SIGALRM kills it."""
SOON = 1.0
"""Seconds that a call in a thread must have taken to be reported as hanging."""
TOLD = 20
"""Hanging calls that are logged one by one; of further ones the number."""


class Deadline:
    """A time by which something is to have ended; the default is never."""

    def __init__(self, clock: IReactorTime | None = None, seconds: float = inf) -> None:
        """Set the deadline ``seconds`` from now."""
        self._clock = clock
        self._at = inf if clock is None else clock.seconds() + seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return inf if self._clock is None else max(0.0, self._at - self._clock.seconds())

    def earlier(self, seconds: float) -> "Deadline":
        """Return a deadline that is ``seconds`` earlier, to leave that time for what comes after."""
        return Deadline(self._clock, self.left - seconds)

    async def ends(self, doing: Awaitable[Any], what: str) -> bool:
        """Wait for ``doing`` until the deadline; return whether it has ended, with a result or an error.

        If it has not, it is cancelled, logged as ``what``, and not waited for. An error that it raises is logged.
        """
        running = Deferred.fromCoroutine(_awaited(doing))
        over: Deferred[bool] = Deferred()

        def end(result: Any) -> None:
            if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
                log.failure("{what}: stopping failed", result, what=what)
            if not over.called:
                over.callback(True)

        running.addBoth(end)
        if over.called or self._clock is None:
            return await over
        late = self._clock.callLater(self.left, over.callback, False)
        try:
            ended = await over
        finally:
            if late.active():
                late.cancel()
        if not ended:
            log.warn("{what}: not stopped in time, and no longer waited for", what=what)
            running.cancel()
        return ended


async def _awaited(doing: Awaitable[Any]) -> Any:
    return await doing


NEVER = Deadline()


class StoppableService(Service):
    """A service with a deadline for its stop."""

    what = ""
    """Its name in the log."""
    needs = 0.0
    """Seconds that the services which are stopped before it leave for it."""
    deadline = NEVER
    """The deadline of its stop; set right before ``stopService``."""


def log_pending() -> None:
    """Log the calls that hang in threads."""
    left = [each for each in pending() if each.seconds >= SOON]
    for each in left[:TOLD]:
        log.warn(
            "{threads}: {call} has not returned for {seconds:.0f} s; the process ends without it",
            threads=each.threads,
            call=each.call,
            seconds=each.seconds,
        )
    if left[TOLD:]:
        log.warn("{count} more calls have not returned", count=len(left) - TOLD)


def end_within(seconds: float) -> None:
    """Make this process exit ``MARGIN`` after ``seconds``, whatever hangs; with status 0, since it was asked to end."""

    def force() -> None:
        log.critical("the process has not stopped in {seconds} s: it is ended by force", seconds=seconds + MARGIN)
        log_pending()
        os._exit(0)

    timer = Timer(seconds + MARGIN, force)
    timer.daemon = True
    timer.start()
    signal.alarm(int(seconds + 2 * MARGIN))  # The system's, in case Python or the log hangs too.
