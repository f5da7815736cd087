"""Notify clients of the ends of their jobs: a signed POST, repeated until it is acknowledged.

Any 2xx acknowledges. Redirects are not followed, addresses are checked by ``[sources]`` as a source's are, and no login
is sent. Several notifiers on one database share the work; if one dies, another sends its notices again, with the same
id. ``datamover.notices.queue`` reads and writes the database.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from treq.client import HTTPClient
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from datamover.bounds.servers import LONGEST_PAUSE_BETWEEN
from datamover.bounds.work import NOTICE_SECONDS, NOTICES_AT_ONCE, NOTICES_PER_HOST, NOTICES_PER_OWNER
from datamover.concurrency.loops import Loops
from datamover.concurrency.wakeup import Wakeup
from datamover.config.schema import Transfers
from datamover.errors import DataMoverError, InternalError, Scope, ServerError, TimedOut, Unavailable
from datamover.jobs.notifications import NOTICE, Notifications
from datamover.jobs.queue.retry import backoff
from datamover.jobs.values import Notice
from datamover.notices.queue import Notices
from datamover.notices.signing import SignedNotice, signed_notice
from datamover.protocols.http.answers import Head, retry_after
from datamover.protocols.http.content import beginning
from datamover.text.quoting import short_source

log = Logger()

POLL = 1.0
"""Seconds between two looks for due notices without a notification."""
GRACE = 2.0
"""Seconds for the notices being sent when the service stops."""


class Post(Protocol):
    """The part of ``HttpClient`` that is used here."""

    def treq(self, client: str) -> HTTPClient:
        """Return a treq client that obeys the rules of ``client``."""


class Secrets(Protocol):
    """The clients' signing secrets."""

    def secret(self, client: str) -> str: ...


@dataclass(frozen=True, slots=True)
class NoticeContext:
    """The dependencies of one attempt."""

    http: Post
    secrets: Secrets
    settings: Transfers
    """They hold the pauses between attempts."""


@dataclass(frozen=True, slots=True)
class NotifierLimits:
    """Limits and times, in seconds."""

    at_once: int = NOTICES_AT_ONCE
    per_host: int = NOTICES_PER_HOST
    per_owner: int = NOTICES_PER_OWNER
    timeout: float = NOTICE_SECONDS
    poll: float = POLL


class Notifier:
    """Sends the notices of one process."""

    def __init__(
        self,
        notices: Notices,
        contexts: Callable[[], AbstractContextManager[NoticeContext]],
        *,
        clock: IReactorTime,
        wall: Callable[[], float],
        random: Callable[[], float],
        notifications: Notifications,
        limits: NotifierLimits = NotifierLimits(),
        loops: Loops | None = None,
    ) -> None:
        """``contexts`` holds the dependencies during one attempt; ``wall`` returns POSIX seconds."""
        self._notices = notices
        self._contexts = contexts
        self._clock = clock
        self._wall = wall
        self._random = random
        self._notifications = notifications
        self._limits = limits
        self._wakeup = Wakeup(clock)
        # By (job, lease): a notice may be claimed again here before its earlier attempt has ended.
        self._sending: dict[tuple[int, int], tuple[Notice, Deferred[None]]] = {}
        self._stopping = False
        self._loops = loops or Loops(clock)
        self._loop = self._loops.loop("notices")
        self._looking: Deferred[None] | None = None
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to send; returns at once."""
        self._forget = self._notifications.subscribe(self._on_notification)
        self._looking = self._loop.start(self._run)

    async def stop(self, grace: float = GRACE) -> None:
        """Begin nothing new, give the notices being sent ``grace`` seconds, and release the rest.

        Completes when nothing is being sent, and the rest is released or the database unavailable.
        """
        self._stopping = True
        self._forget()
        self._wakeup.set()
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

    def _on_notification(self, word: str) -> None:
        if word in ("", NOTICE):
            self._wakeup.set()

    async def _run(self) -> None:
        while not self._stopping:
            taken = await self._take()
            self._loop.turned()
            if not taken:
                await self._wakeup.wait(self._limits.poll)

    async def _take(self) -> int:
        room = self._limits.at_once - len(self._sending)
        if room <= 0:
            return 0
        sending = [notice for notice, _ in self._sending.values()]
        try:
            taken = await self._notices.claim(room, self._limits.per_host, self._limits.per_owner, sending)
            if self._stopping:
                await self._notices.release(taken)
                return 0
        except DataMoverError as error:
            log.warn("due notices cannot be read: {error}", error=error.full)
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
                self._wakeup.set()

        sending = Deferred.fromCoroutine(deliver()).addErrback(_end_of_delivery, notice.job)
        self._sending[key] = notice, sending
        begun.callback(None)

    # Sending --------------------------------------------------------------------------------------------------

    async def _deliver(self, notice: Notice) -> None:
        """Make one attempt and write its outcome; if that cannot be written, the notice is sent again."""
        try:
            with self._contexts() as context:
                await self._attempt(notice, context)
        except Unavailable as error:
            log.warn("the outcome of the notice of job {job} is not written: {error}", job=notice.job, error=error.full)

    async def _attempt(self, notice: Notice, context: NoticeContext) -> None:
        try:
            await self._posted(notice, context)
        except CancelledError:
            await self._notices.release([notice])
        except DataMoverError as error:
            pause = backoff(notice.attempt, context.settings, self._random)
            if error.retry_after is not None:
                pause = max(pause, min(error.retry_after, LONGEST_PAUSE_BETWEEN))
            log.info(
                "the notice of job {job} is sent again in {pause:.0f} s: {error}",
                job=notice.job,
                pause=pause,
                error=error.full,
            )
            await self._notices.put_off(notice, error, pause)
        else:
            log.info("{url} acknowledged the notice of job {job}", url=short_source(notice.url.shown), job=notice.job)
            await self._notices.delivered(notice)

    async def _posted(self, notice: Notice, context: NoticeContext) -> None:
        """Send a notice; raises why it was not acknowledged, InternalError for an unexpected error."""
        try:
            await self._post(notice, context)
        except (CancelledError, DataMoverError):
            raise
        except Exception as error:
            self._loops.refused("notices", f"the notice of job {notice.job}", Failure())  # type: ignore[no-untyped-call]
            raise InternalError from error

    async def _post(self, notice: Notice, context: NoticeContext) -> None:
        signed = signed_notice(notice, context.secrets.secret(notice.owner), self._wall())
        posting = Deferred.fromCoroutine(_posted(context.http.treq(notice.owner), notice.url.url, signed))
        posting.addTimeout(self._limits.timeout, self._clock)
        try:
            head = await posting
        except defer.TimeoutError:
            raise TimedOut(
                f"{short_source(notice.url.shown)} did not answer within {self._limits.timeout:g} s",
                scope=Scope.SERVICE,
            ) from None
        if not 200 <= head.status < 300:
            raise ServerError(head.answered, scope=Scope.SERVICE, retry_after=retry_after(head))


async def _posted(treq: HTTPClient, url: str, signed: SignedNotice) -> Head:
    """Send a notice; return the head of the answer when its connection is free or closed."""
    headers = Headers({name: [value] for name, value in signed.headers.items()})
    head, _ = await beginning(await treq.post(url, data=signed.body, headers=headers, unbuffered=True))
    return head


def _end_of_delivery(failure: Failure, job: int) -> None:
    if not isinstance(failure.value, CancelledError):
        log.failure("sending the notice of job {job} failed", failure, job=job)
