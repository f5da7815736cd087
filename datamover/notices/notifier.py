"""Tells clients of the ends of their jobs: a signed POST, again and again until it is acknowledged.

Any 2xx acknowledges. Redirects are not followed, addresses are judged by ``[sources]`` as a source's are, and no login
is ever sent. Several notifiers on one database share the work; what one of them dies over, another sends again, with
the same id. Which notices are due, and what becomes of them, is written by ``datamover.notices.queue``.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.loops import Loops
from datamover.concurrency.wakeup import Wakeup
from datamover.config.schema import Transfers
from datamover.errors import DataMoverError, InternalError, Scope, ServerError, TimedOut, Unavailable
from datamover.jobs import notifications
from datamover.jobs.retry import LONGEST_PAUSE, backoff
from datamover.jobs.values import Notice
from datamover.notices.queue import Notices
from datamover.notices.signing import letter
from datamover.protocols.http.call import Answer
from datamover.text.bounds import short_source

log = Logger()

AT_ONCE = 16
PER_HOST = 2
"""Of those, to one host and port."""
TIMEOUT = 15.0
"""Seconds from the connection to the end of the answer: half of what a claim is good for."""
POLL = 1.0
"""Seconds after which the notices are looked at, should no word have come."""
GRACE = 2.0
"""Seconds that what is being sent has when the service stops."""


class Post(Protocol):
    """What of the HTTP client is needed here."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, client: str) -> Answer: ...


class Secrets(Protocol):
    """The clients' secrets."""

    def secret(self, client: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What notices are sent with."""

    http: Post
    secrets: Secrets
    settings: Transfers
    """Of these, the pauses between attempts are taken."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much, how often, how long; seconds."""

    at_once: int = AT_ONCE
    per_host: int = PER_HOST
    timeout: float = TIMEOUT
    poll: float = POLL


class Notifier:
    """The notices of one process."""

    def __init__(
        self,
        notices: Notices,
        means: Callable[[], AbstractContextManager[Means]],
        *,
        clock: IReactorTime,
        wall: Callable[[], float],
        random: Callable[[], float],
        heard: notifications.Notifications,
        pace: Pace = Pace(),
        loops: Loops | None = None,
    ) -> None:
        """``means`` gives an attempt what it needs, to its end; ``wall`` tells POSIX seconds."""
        self._notices = notices
        self._means = means
        self._clock = clock
        self._wall = wall
        self._random = random
        self._news = heard
        self._pace = pace
        self._pulse = Wakeup(clock)
        # By (job, lease): one that was claimed anew may be sent here before its earlier attempt has ended.
        self._sending: dict[tuple[int, int], tuple[Notice, Deferred[None]]] = {}
        self._stopping = False
        self._loops = loops or Loops(clock)
        self._loop = self._loops.loop("notices")
        self._looking: Deferred[None] | None = None
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to send."""
        self._forget = self._news.subscribe(self._hear)
        self._looking = self._loop.start(self._run)

    async def stop(self, grace: float = GRACE) -> None:
        """Send nothing new, give what is being sent ``grace`` seconds, and hand back the rest.

        Completes when nothing is being sent any more, and the rest is handed back or the database away.
        """
        self._stopping = True
        self._forget()
        self._pulse.set()
        self._loop.hurry()

        def end() -> None:
            self._loop.stop()
            for _, sending in self._sending.values():
                sending.cancel()

        hurry = self._clock.callLater(grace, end)
        if self._looking is not None:
            await self._looking
        await DeferredList([sending for _, sending in self._sending.values()])
        if hurry.active():
            hurry.cancel()

    # Taking ---------------------------------------------------------------------------------------------------

    def _hear(self, word: str) -> None:
        if word in ("", notifications.NOTICE):
            self._pulse.set()

    async def _run(self) -> None:
        while not self._stopping:
            taken = await self._take()
            self._loop.turned()
            if not taken:
                await self._pulse.wait(self._pace.poll)

    async def _take(self) -> int:
        room = self._pace.at_once - len(self._sending)
        if room <= 0:
            return 0
        busy = Counter(notice.host for notice, _ in self._sending.values())
        try:
            taken = await self._notices.claim(room, self._pace.per_host, busy)
            if self._stopping:
                await self._notices.release(taken)
                return 0
        except DataMoverError as error:
            log.warn("notices cannot be looked for: {error}", error=error.full)
            return 0
        for notice in taken:
            self._begin(notice)
        return len(taken)

    def _begin(self, notice: Notice) -> None:
        key = notice.job, notice.lease
        begun: Deferred[None] = Deferred()

        async def deliver() -> None:
            try:
                await begun
                await self._deliver(notice)
            finally:
                del self._sending[key]
                self._pulse.set()

        sending = Deferred.fromCoroutine(deliver()).addErrback(_end_of_delivery, notice.job)
        self._sending[key] = notice, sending
        begun.callback(None)

    # Sending --------------------------------------------------------------------------------------------------

    async def _deliver(self, notice: Notice) -> None:
        """Make one attempt, and write what came of it; what cannot be written is sent again."""
        try:
            with self._means() as means:
                await self._attempt(notice, means)
        except Unavailable as error:
            log.warn("what came of the notice of job {job} is not written: {error}", job=notice.job, error=error.full)

    async def _attempt(self, notice: Notice, means: Means) -> None:
        try:
            await self._posted(notice, means)
        except CancelledError:
            await self._notices.release([notice])
        except DataMoverError as error:
            pause = backoff(notice.attempt, means.settings, self._random)
            if error.retry_after is not None:
                pause = max(pause, min(error.retry_after, LONGEST_PAUSE))
            log.info(
                "the notice of job {job} is sent again in {pause:.0f} s: {error}",
                job=notice.job,
                pause=pause,
                error=error.full,
            )
            await self._notices.put_off(notice, error, pause)
        else:
            log.info("{url} knows of the end of job {job}", url=short_source(notice.url.shown), job=notice.job)
            await self._notices.delivered(notice)

    async def _posted(self, notice: Notice, means: Means) -> None:
        """Send a notice; raises what kept it from being acknowledged, InternalError where that is a bug of ours."""
        try:
            await self._post(notice, means)
        except (CancelledError, DataMoverError):
            raise
        except Exception as error:
            self._loops.refused("notices", f"the notice of job {notice.job}", Failure())  # type: ignore[no-untyped-call]
            raise InternalError from error

    async def _post(self, notice: Notice, means: Means) -> None:
        signed = letter(notice, means.secrets.secret(notice.owner), self._wall())
        posting = Deferred.fromCoroutine(
            means.http.post(notice.url.url, signed.body, signed.headers, client=notice.owner)
        )
        posting.addTimeout(self._pace.timeout, self._clock)
        try:
            answer = await posting
        except defer.TimeoutError:
            raise TimedOut(
                f"{short_source(notice.url.shown)} did not answer within {self._pace.timeout:g} s", scope=Scope.SERVICE
            ) from None
        if not 200 <= answer.status < 300:
            raise ServerError(f"{answer.head.answered}", scope=Scope.SERVICE, retry_after=answer.retry_after)


def _end_of_delivery(failure: Failure, job: int) -> None:
    if not isinstance(failure.value, CancelledError):
        log.failure("the notice of job {job} broke off", failure, job=job)
