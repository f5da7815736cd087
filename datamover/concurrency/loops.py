"""Loops that must go on: run again when they break, counted, and told of when they do not turn.

A loop tells each turn that went well. One that breaks is logged with its traceback and run again after a pause; one
that has not turned within its bound is cancelled, and run again. Whoever asks whether this process is well is told.
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
"""Seconds within which a loop turns: more than a database that takes statements and does not answer holds one up."""
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds until a loop that broke is run again; the last one from then on. A turn that goes well begins them anew."""

LOOPS = MappingProxyType(
    {
        "audit": "writing the audit trail",
        "changes": "bringing changes to the files of jobs, and ending what is overdue",
        "claims": "taking work from the queue",
        "clock": "looking whether the database's clock was set back",
        "database": "opening the database",
        "engine": "starting to work",
        "figures": "reading the figures that are watched",
        "heartbeat": "telling that this process lives",
        "lag": "measuring how late the event loop is",
        "leases": "renewing what is held",
        "listener": "listening to what other processes tell",
        "lost leases": "stopping what could not be renewed",
        "notices": "telling clients of the ends of their jobs",
        "processes": "keeping engine processes running",
        "progress": "writing down how far transfers are, and how they end",
        "quotas": "counting the bytes of the day",
        "retirement": "forgetting old jobs",
        "service manager": "telling the service manager how this process is",
        "shares": "sharing bandwidth with other processes",
        "stops": "stopping what is cancelled or paused",
        "submissions": "storing what is asked for",
        "sweeping": "removing what ended transfers left",
        "takeovers": "taking over from processes that are gone",
        "upkeep": "doing what any engine does for all jobs",
        "watchdog": "giving the service manager signs of life",
        "words": "telling the parent process",
    }
)
"""Every loop, by the name that it is counted under: what it is for."""

OnRefusal = Callable[[str, str, Failure], None]
"""Is told, of a loop, by its name, what of its work was refused and stands alone, as the subject of a sentence."""


def log_refusal(loop: str, what: str, failure: Failure) -> None:
    """Log what a loop's work choked on."""
    log.failure("{what} is set aside: it was refused ({loop})", failure, what=what, loop=loop)


class Loop:
    """One loop, or one thing that a loop does at every turn; ``Loops`` makes it."""

    def __init__(self, name: str, clock: IReactorTime, failed: Callable[[str], None], bound: float | None) -> None:
        self.name = name
        self.broken = False
        """It broke, and has not turned since."""
        self.stuck = False
        """It has not turned within its bound."""
        self.ended = False
        """It need not turn any more."""
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
        """What is wrong with it, in words."""
        if self.ended or not (self.broken or self.stuck):
            return None
        how = f"has not turned for {self._bound:.0f} s" if self.stuck else "failed, and has not gone well since"
        return f"{LOOPS[self.name]} ({self.name}) {how}"

    # What a loop tells ----------------------------------------------------------------------------------------

    def turned(self) -> None:
        """Tell that a turn went well."""
        self.broken = self.stuck = False
        self._failures = 0
        self._resting_until = 0.0
        self._show_life()

    def failed(self, failure: Failure | None = None) -> None:
        """Log and count an error that nobody foresaw: the present one, or that of ``failure``."""
        self.broken = True
        pause = self._rest()
        what = LOOPS[self.name]
        log.failure("{what} failed ({loop}); it goes on in {pause} s", failure, what=what, loop=self.name, pause=pause)
        self._failed(self.name)

    def _rest(self) -> float:
        """Have nothing of it done for a while, longer each time; return the seconds."""
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._resting_until = self._clock.seconds() + pause
        self._show_life()
        return pause

    def _show_life(self) -> None:
        if self._alarm is not None and self._bound is not None:
            self._alarm.reset(self._bound)

    async def step(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """Do one thing of a turn whose errors must not keep the turn from what comes after it.

        Returns ``otherwise`` where it failed, was refused in words, or rests after a failure.
        """
        if self._clock.seconds() < self._resting_until:
            return otherwise
        try:
            result = await call()
        except CancelledError:
            raise
        except DataMoverError as error:
            log.warn("{what}: {error}", what=LOOPS[self.name], error=error.message)
        except Exception:
            self.failed()
        else:
            self.turned()
            return result
        return otherwise

    # Running it -----------------------------------------------------------------------------------------------

    def start(self, run: Callable[[], Awaitable[None]]) -> "Deferred[None]":
        """Have ``run`` run again whenever it breaks; the Deferred fires when it returns, or was stopped.

        Cancelling that stops it.
        """
        over: Deferred[None] = Deferred(self._cancelled)
        self.ended = False
        self._running = Deferred.fromCoroutine(self._keep(run))
        self._running.addBoth(lambda _: None if over.called else over.callback(None))
        return over

    def stop(self) -> "Deferred[None]":
        """Cancel it; the Deferred fires when it has ended."""
        self.ended = True
        self._disarm()
        if self._running is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._running.addBoth(lambda _: ended.callback(None))
        self._running.cancel()
        return ended

    def hurry(self) -> None:
        """Have it begin anew at once, should it rest: for an end that is waited for."""
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
            return  # Stopped while it rested.
        finally:
            self.ended = True
            self._disarm()

    async def _through(self, run: Callable[[], Awaitable[None]]) -> bool:
        """Run it once; tell whether it is over."""

        async def running() -> None:
            await run()

        self._run = Deferred.fromCoroutine(running())
        try:
            await self._run
        except CancelledError:
            if self.ended:
                return True
            self.failed()  # Nobody wanted it to end: it was stuck, or something that it waited for was cancelled.
        except Unavailable as error:
            log.warn("{what}: {error}", what=LOOPS[self.name], error=error.message)
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
        """Have what does not turn begin anew."""
        self.stuck = True
        what = LOOPS[self.name]
        log.error(
            "{what} has not turned for {bound} s ({loop}): it begins anew", what=what, bound=bound, loop=self.name
        )
        self._alarm = self._clock.callLater(bound, self._overdue, bound)
        if self._run is not None:
            self._run.cancel()


class Loops:
    """The loops of one process."""

    def __init__(self, clock: IReactorTime, failed: Callable[[str], None] = lambda name: None) -> None:
        """``failed`` is told the name of a loop for each error that nobody foresaw."""
        self._clock = clock
        self._failed = failed
        self._loops: list[Loop] = []

    def loop(self, name: str, *, bound: float | None = BOUND) -> Loop:
        """Return a new loop that is called as one of ``LOOPS``; without a ``bound`` it may wait for long."""
        assert name in LOOPS, name
        self._loops = [loop for loop in self._loops if not loop.ended]
        loop = Loop(name, self._clock, self._failed, bound)
        self._loops.append(loop)
        return loop

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong, in words; of each loop that broke and has not turned since, or is stuck."""
        return tuple(trouble for loop in self._loops if (trouble := loop.trouble) is not None)

    @property
    def stuck(self) -> bool:
        """Whether a loop has not turned within its bound."""
        return any(loop.stuck and not loop.ended for loop in self._loops)

    def refused(self, loop: str, what: str, failure: Failure) -> None:
        """Log and count what a loop's work choked on, and went on without."""
        log_refusal(loop, what, failure)
        self._failed(loop)
