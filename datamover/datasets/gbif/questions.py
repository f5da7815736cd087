"""What is asked of GBIF and how gently: two requests at once, and a pause where GBIF asks for one.

A request that fails and may work later is sent again here a few times, since beginning a dataset anew would cost GBIF
every page once more; what still fails then is for the engine to try again. What the answers mean is ``answers``'s
business.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from datamover.datasets.gbif.answers import not_json, refusal_of
from datamover.errors import DataMoverError
from datamover.protocols.http.answers import Head
from datamover.protocols.http.content import whole

AT_ONCE = 2
"""Requests to GBIF at once, of all the datasets of this process together."""

SMALL = 2**20
"""Bytes of an answer that is read on the reactor."""

JSON = Headers({"Accept": ["application/json"]})

log = Logger()

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request is tried."""

    tries: int = 4
    first_pause: float = 2.0
    """Seconds; doubled each time where GBIF does not say how long."""
    longest_pause: float = 60.0
    """Where GBIF asks for more, the attempt ends, and its place is free for other work meanwhile."""


class Questions:
    """Asks one GBIF for everything that this process wants of it."""

    def __init__(self, url: str, treq: HTTPClient, clock: Any, patience: Patience | None = None) -> None:
        self._url = url.rstrip("/")
        self._treq = treq
        self._clock = clock
        self._patience = patience or Patience()
        self._slots = DeferredSemaphore(AT_ONCE)
        self._quiet_until = 0.0

    async def ask(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        about: str,
        expected: frozenset[int] = frozenset(),
        limit: int = SMALL,
    ) -> tuple[Head, bytes]:
        """Return the answer to a GET below GBIF's URL: a JSON object, or an answer of a status among ``expected``.

        ``about`` is what is asked for, in words. Raises what ``refusal_of`` makes of any other status, and what
        ``whole`` and the request raise. Cancelling drops the request.
        """
        tried = 0
        while True:
            try:
                return _checked(*await self._once(path, parameters, limit), about, expected)
            except DataMoverError as error:
                usual = self._patience.first_pause * 2**tried
                pause = usual if error.retry_after is None else error.retry_after
                tried += 1
                if not error.retryable or tried >= self._patience.tries or pause > self._patience.longest_pause:
                    raise
                log.info("GBIF is asked again in {pause:.1f} s: {error}", pause=pause, error=error)
                self._quiet_until = max(self._quiet_until, self._clock.seconds() + pause)

    async def _once(self, path: str, parameters: Mapping[str, str] | None, limit: int) -> tuple[Head, bytes]:
        await self._slots.acquire()
        try:
            # Whoever was told to wait, nobody asks before that time.
            while (pause := self._quiet_until - self._clock.seconds()) > 0:
                await deferLater(self._clock, pause, lambda: None)
            asked = self._treq.get(f"{self._url}{path}", params=parameters, headers=JSON)
            return await whole(await asked, limit)
        finally:
            self._slots.release()


def _checked(head: Head, body: bytes, about: str, expected: frozenset[int]) -> tuple[Head, bytes]:
    if head.status not in expected | {200}:
        raise refusal_of(head, body, about)
    if head.status == 200 and not body.lstrip().startswith(b"{"):
        raise not_json(head.url)
    return head, body


async def in_order(
    ask: Callable[[Item], Coroutine[Any, Any, Found]],
    items: Iterable[Item],
    take: Callable[[Item, Found], Awaitable[None]],
) -> None:
    """Ask for each item, ``AT_ONCE`` ahead, and hand what was found to ``take`` in the items' order.

    Completes when the last was taken; raises the first error in order, with nothing left in flight. Cancelling stops
    what is in flight.
    """
    rest = iter(items)
    waiting: deque[tuple[Item, Deferred[Found]]] = deque()
    try:
        while True:
            for item in rest:
                waiting.append((item, Deferred.fromCoroutine(ask(item))))
                if len(waiting) >= AT_ONCE:
                    break
            if not waiting:
                return
            item, found = waiting.popleft()
            await take(item, await found)
    finally:
        left = [found for _, found in waiting]
        ended = DeferredList(left, consumeErrors=True)
        for found in left:
            found.cancel()
        await ended
