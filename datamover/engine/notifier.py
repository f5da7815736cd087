"""Tells clients of the ends of their jobs: a signed POST, again and again until it is acknowledged.

Any 2xx acknowledges. Redirects are not followed, addresses are judged by ``[sources]`` as a source's are, and no login
is ever sent. Several notifiers on one database share the work; what one of them dies over, another sends again, with
the same id. Which notices are due, and what becomes of them, is written by ``datamover.jobs.notices``.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.config import Transfers
from datamover.engine.pulse import Pulse
from datamover.engine.retry import LONGEST_PAUSE, backoff
from datamover.engine.signing import letter
from datamover.errors import DataMoverError, Scope, ServerError, TimedOut, Unavailable
from datamover.jobs import news
from datamover.jobs.notices import Notices
from datamover.jobs.values import Notice
from datamover.protocols.http.call import Answer

log = Logger()

AT_ONCE = 16
PER_HOST = 2
"""Of those, to one host and port."""
TIMEOUT = 30.0
"""Seconds from the connection to the end of the answer."""
LEASE = 2 * TIMEOUT
"""Seconds after which another engine sends what this one says nothing of."""
POLL = 1.0
"""Seconds after which the notices are looked at, should no word have come."""
GRACE = 2.0
"""Seconds that what is being sent has when the service stops."""


class Post(Protocol):
    """What of the HTTP client is needed here."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer: ...


class Secrets(Protocol):
    """The clients' secrets."""

    def secret(self, client: str) -> str: ...


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
        http: Post,
        secrets: Secrets,
        settings: Transfers,
        *,
        clock: IReactorTime,
        wall: Callable[[], float],
        random: Callable[[], float],
        heard: news.News,
        pace: Pace = Pace(),
    ) -> None:
        """``wall`` tells POSIX seconds; of ``settings``, the pauses between attempts are taken."""
        self._notices = notices
        self._http = http
        self._secrets = secrets
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._random = random
        self._news = heard
        self._pace = pace
        self._pulse = Pulse(clock)
        self._sending: dict[Notice, Deferred[None]] = {}
        self._loop: Deferred[None] | None = None
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to send."""
        self._forget = self._news.hear(self._hear)
        self._loop = Deferred.fromCoroutine(self._run()).addErrback(_end_of_loop)

    async def stop(self, grace: float = GRACE) -> None:
        """Send nothing new, give what is being sent ``grace`` seconds, and hand back the rest.

        Completes when nothing is being sent any more, and what was not acknowledged is handed back or the database away.
        """
        self._forget()
        if self._loop is not None:
            self._loop.cancel()
            await self._loop
        sending = dict(self._sending)

        def end() -> None:
            for one in list(self._sending.values()):
                one.cancel()

        hurry = self._clock.callLater(grace, end)
        # A copy of each: an errback that is added here would otherwise be what others wait for.
        await DeferredList(list(sending.values()))
        if hurry.active():
            hurry.cancel()

    def _hear(self, word: str) -> None:
        if word in ("", news.NOTICE):
            self._pulse.beat()

    async def _run(self) -> None:
        while True:
            taken = await self._take()
            if not taken:
                await self._pulse.wait(self._pace.poll)

    async def _take(self) -> int:
        room = self._pace.at_once - len(self._sending)
        if room <= 0:
            return 0
        busy = Counter(notice.host for notice in self._sending)
        try:
            taken = await self._notices.claim(room, self._pace.per_host, busy)
        except DataMoverError as error:
            log.warn("notices cannot be looked for: {error}", error=error.message)
            return 0
        for notice in taken:
            self._begin(notice)
        return len(taken)

    def _begin(self, notice: Notice) -> None:
        def ended(_: object) -> None:
            del self._sending[notice]
            self._pulse.beat()

        delivering = Deferred.fromCoroutine(self._deliver(notice))
        self._sending[notice] = delivering
        delivering.addErrback(_end_of_delivery, notice.job).addCallback(ended)
