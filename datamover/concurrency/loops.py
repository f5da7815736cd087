"""Supervised loops: an unexpected error is logged and counted, and the loop is run again after a pause.

A loop reports each turn that succeeded (``turned``). One that has not turned within its bound is cancelled and run
again. ``Loops`` says in words what is wrong, for readiness checks and the service manager.
"""

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.errors import DataMoverError, Unavailable

log = Logger()

T = TypeVar("T")

BOUND = 180.0
"""Seconds within which a loop must turn; more than a database that accepts a statement and never answers costs it."""
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a loop that failed is run again, one after the other; the last repeats. A good turn resets them."""

LOOPS = MappingProxyType(
    {
        "audit": "writing the audit trail",
        "changes": "bringing changes to the files of jobs, and ending what is overdue",
        "claims": "taking work from the queue",
        "clock": "checking whether the database's clock was set back",
        "database": "opening the database",
        "engine": "starting to work",
        "figures": "reading the figures that are watched",
        "heartbeat": "writing this process' heartbeat",
        "lag": "measuring how late the event loop is",
        "leases": "renewing leases",
        "listener": "listening for notifications of other processes",
        "lost leases": "stopping transfers whose leases could not be renewed",
        "notices": "notifying clients of the ends of their jobs",
        "processes": "keeping engine processes running",
        "progress": "writing the progress and the ends of transfers",
        "quotas": "counting the bytes of the day",
        "retirement": "removing old jobs",
        "room": "checking for room for the transfers that wait for it",
        "service manager": "reporting the state of this process to the service manager",
        "shares": "sharing bandwidth with other processes",
        "status messages": "sending status messages to the parent process",
        "stops": "stopping transfers that are cancelled or paused",
        "submissions": "storing new jobs",
        "sweeping": "removing what ended transfers left",
        "takeovers": "taking over the work of processes that are gone",
        "upkeep": "doing the upkeep that any engine does for all jobs",
        "watchdog": "sending the service manager's watchdog signals",
    }
)
"""Every loop: the name that it is counted under in metrics, and what it does."""

OnRefusal = Callable[[str, str, Failure], None]
"""Called with a loop's name, the item of its work that the database refuses (a sentence's subject) and the error."""


def log_refusal(loop: str, what: str, failure: Failure) -> None:
    """Log the item of a loop's work that the database refuses, or that cannot be read."""
    log.failure("{what} is set aside after this error ({loop})", failure, what=what, loop=loop)


class Loop:
    """One loop, or one step that a loop does at every turn; made by ``Loops.loop``."""

    def __init__(self, name: str, clock: IReactorTime, failed: Callable[[str], None], bound: float | None) -> None:
        self.name = name
        self.broken = False
        """Whether it failed and has not turned since."""
        self.stuck = False
        """Whether it has not turned within its bound."""
        self.ended = False
        """Whether it has returned or was stopped."""
        self._clock = clock
        self._failed = failed
        self._bound = bound
        self._failures = 0
        self._resting_until = 0.0
        self._running: Deferred[None] | None = None
        self._run: Deferred[None] | None = None
        self._sleeping: Deferred[None] | None = None
        self._alarm: IDelayedCall | None = None

    @property
    def trouble(self) -> str | None:
        """What is wrong with it, as a sentence; None: nothing."""
        if self.ended or not (self.broken or self.stuck):
            return None
        how = f"has not turned for {self._bound:.0f} s" if self.stuck else "failed, and has not succeeded since"
        return f"{LOOPS[self.name]} ({self.name}) {how}"

    # Reporting ------------------------------------------------------------------------------------------------

    def turned(self) -> None:
        """Report a turn that succeeded."""
        self.broken = self.stuck = False
        self._failures = 0
        self._resting_until = 0.0
        self._show_life()

    def failed(self, failure: Failure | None = None) -> None:
        """Log and count an unexpected error: ``failure``, or the exception that is being handled."""
        self.broken = True
        pause = self._rest()
        what = LOOPS[self.name]
        log.failure(
            "{what} failed ({loop}); trying again in {pause} s", failure, what=what, loop=self.name, pause=pause
        )
        self._failed(self.name)

    def _rest(self) -> float:
        """Begin a pause, longer than the one before, and return its seconds."""
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._resting_until = self._clock.seconds() + pause
        self._show_life()
        return pause

    def _show_life(self) -> None:
        if self._alarm is not None and self._bound is not None:
            self._alarm.reset(self._bound)

    async def step(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """Do one step of a turn; its errors do not keep the turn from its other steps.

        Returns ``otherwise`` when the step fails, and while it pauses after an unexpected error.
        """
        if self._clock.seconds() < self._resting_until:
            return otherwise
        try:
            result = await call()
        except CancelledError:
            raise
        except DataMoverError as error:
            log.warn("{what}: {error}", what=LOOPS[self.name], error=error.full)
        except Exception:
            self.failed()
        else:
            self.turned()
            return result
        return otherwise

    # Running it -----------------------------------------------------------------------------------------------

    def start(self, run: Callable[[], Awaitable[None]]) -> "Deferred[None]":
        """Run ``run``, again whenever it fails; the Deferred fires when it has returned or was stopped.

        Cancelling the Deferred stops the loop.
        """
        over: Deferred[None] = Deferred(self._cancelled)
        self.ended = False
        self._running = Deferred.fromCoroutine(self._keep(run))
        self._running.addBoth(lambda _: None if over.called else over.callback(None))
        return over

    def stop(self) -> "Deferred[None]":
        """Cancel the loop; the Deferred fires when it has ended."""
        self.ended = True
        self._disarm()
        if self._running is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._running.addBoth(lambda _: ended.callback(None))
        self._running.cancel()
        return ended

    def hurry(self) -> None:
        """End a pause, if there is one, so that the loop runs again at once."""
        if self._sleeping is not None and not self._sleeping.called:
            self._sleeping.callback(None)

    async def _sleep(self, seconds: float) -> None:
        self._sleeping = Deferred()
        later = self._clock.callLater(seconds, self.hurry)
        try:
            await self._sleeping
        finally:
            self._sleeping = None
            if later.active():
                later.cancel()

    def _cancelled(self, _: Deferred[None]) -> None:
        self.stop()

    async def _keep(self, run: Callable[[], Awaitable[None]]) -> None:
        if self._bound is not None:
            self._alarm = self._clock.callLater(self._bound, self._overdue, self._bound)
        try:
            while not await self._through(run) and not self.ended:
                await self._sleep(max(0.0, self._resting_until - self._clock.seconds()))
        except CancelledError:
            return  # Stopped during a pause.
        finally:
            self.ended = True
            self._disarm()

    async def _through(self, run: Callable[[], Awaitable[None]]) -> bool:
        """Run it once; return whether the loop has ended."""

        async def running() -> None:
            await run()

        self._run = Deferred.fromCoroutine(running())
        try:
            await self._run
        except CancelledError:
            if self.ended:
                return True
            self.failed()  # Not stopped: it was stuck, or something that it waited for was cancelled.
        except Unavailable as error:
            log.warn("{what}: {error}", what=LOOPS[self.name], error=error.full)
            self._rest()
        except Exception:
            self.failed()
        else:
            return True
        finally:
            self._run = None
        return False

    def _disarm(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()

    def _overdue(self, bound: float) -> None:
        """Cancel a run that has not turned within ``bound`` seconds, so that it is run again."""
        self.stuck = True
        what = LOOPS[self.name]
        log.error(
            "{what} has not turned for {bound} s ({loop}): it is run again", what=what, bound=bound, loop=self.name
        )
        self._alarm = self._clock.callLater(bound, self._overdue, bound)
        if self._run is not None:
            self._run.cancel()


class Loops:
    """The loops of one process."""

    def __init__(self, clock: IReactorTime, failed: Callable[[str], None] = lambda name: None) -> None:
        """``failed`` is called with a loop's name for each unexpected error."""
        self._clock = clock
        self._failed = failed
        self._loops: list[Loop] = []

    def loop(self, name: str, *, bound: float | None = BOUND) -> Loop:
        """Return a new loop with a name of ``LOOPS``; ``bound`` None sets no limit to the seconds between two turns."""
        assert name in LOOPS, name
        self._loops = [loop for loop in self._loops if not loop.ended]
        loop = Loop(name, self._clock, self._failed, bound)
        self._loops.append(loop)
        return loop

    @property
    def troubles(self) -> tuple[str, ...]:
        """A sentence for each loop that is stuck, or that failed and has not turned since."""
        return tuple(trouble for loop in self._loops if (trouble := loop.trouble) is not None)

    @property
    def stuck(self) -> bool:
        """Whether a loop has not turned within its bound."""
        return any(loop.stuck and not loop.ended for loop in self._loops)

    def refused(self, loop: str, what: str, failure: Failure) -> None:
        """Log and count an item of a loop's work that the database refuses; see ``OnRefusal``."""
        log_refusal(loop, what, failure)
        self._failed(loop)
