"""The end of a process: one deadline for the whole stop, given to each part in turn.

What has not ended when its time is over is told in the log and left to itself. Nothing is lost by that: leases run out,
and what was answered is on disk.
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
"""Seconds after that in which the process is ended by force, should something hang that nobody thought of; and as many
again until the system ends it, should even that hang."""
SOON = 1.0
"""Seconds in which a call may still come back."""
TOLD = 20
"""Calls that do not come back which are told one by one."""


class Deadline:
    """A moment on a clock by which something is to have ended; the default is never."""

    def __init__(self, clock: IReactorTime | None = None, seconds: float = inf) -> None:
        """Be due so many seconds from now."""
        self._clock = clock
        self._at = inf if clock is None else clock.seconds() + seconds

    @property
    def left(self) -> float:
        """Seconds, none of them below 0."""
        return inf if self._clock is None else max(0.0, self._at - self._clock.seconds())

    def earlier(self, seconds: float) -> "Deadline":
        """Return a deadline that leaves so many seconds for what comes after."""
        return Deadline(self._clock, self.left - seconds)

    async def ends(self, doing: Awaitable[Any], what: str) -> bool:
        """Wait for ``doing`` until the deadline; tell whether it has ended, however.

        What has not is cancelled, told as ``what``, and not waited for. What it raises is logged.
        """
        running = Deferred.fromCoroutine(_awaited(doing))
        over: Deferred[bool] = Deferred()

        def end(result: Any) -> None:
            if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
                log.failure("{what}: it does not stop in order", result, what=what)
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
            log.warn("{what}: it has not stopped in time, and is not waited for", what=what)
            running.cancel()
        return ended


async def _awaited(doing: Awaitable[Any]) -> Any:
    return await doing


NEVER = Deadline()


class StoppableService(Service):
    """A service that is given its time to stop by who stops it."""

    what = ""
    """What it is called where it does not stop."""
    needs = 0.0
    """Seconds that the parts which are stopped before it leave it."""
    deadline = NEVER
    """Of its stop; set right before that."""


def tell_pending() -> None:
    """Log which calls do not come back from their threads."""
    left = [each for each in pending() if each.seconds >= SOON]
    for each in left[:TOLD]:
        log.warn(
            "{threads}: {call} has not come back for {seconds:.0f} s; the process ends without it",
            threads=each.threads,
            call=each.call,
            seconds=each.seconds,
        )
    if left[TOLD:]:
        log.warn("{count} more calls have not come back", count=len(left) - TOLD)


def end_within(seconds: float) -> None:
    """Have this process end in so many seconds and a little more, whatever hangs.

    Its status is 0 then: it was asked to end, and did.
    """

    def force() -> None:
        log.critical("something hangs: the process is ended by force")
        tell_pending()
        os._exit(0)

    timer = Timer(seconds + MARGIN, force)
    timer.daemon = True
    timer.start()
    signal.alarm(int(seconds + 2 * MARGIN))  # Of the system, should Python or the log stand still.
