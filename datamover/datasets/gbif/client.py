"""Requests to GBIF: two at a time, owners taking turns, with the pauses that GBIF asks for.

A request that fails with a retryable error is repeated here a few times, since another attempt of the engine would
request every page again.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from datamover.bounds.servers import LARGEST_JSON
from datamover.concurrency.fair_share import FairQueue, FairShare
from datamover.datasets.gbif.answers import not_json, refusal_of
from datamover.errors import DataMoverError
from datamover.protocols.http.answers import Head
from datamover.protocols.http.content import whole

AT_ONCE = 2
"""Concurrent requests to GBIF, of all datasets in this process."""

JSON = Headers({"Accept": ["application/json"]})

log = Logger()

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and how long, one request is repeated."""

    tries: int = 4
    first_pause: float = 2.0
    """Seconds; doubles each time unless GBIF says how long to wait."""
    longest_pause: float = 60.0
    """Seconds; if GBIF asks for more, the attempt fails and is repeated by the engine."""


class GbifClient:
    """Sends the requests of this process to one GBIF."""

    def __init__(self, url: str, treq: HTTPClient, clock: Any, patience: Patience | None = None) -> None:
        self._url = url.rstrip("/")
        self._treq = treq
        self._clock = clock
        self._patience = patience or Patience()
        self._slots = FairQueue(FairShare(lambda: AT_ONCE, kept=False))
        self._quiet_until = 0.0

    async def ask(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        owner: str,
        about: str,
        expected: frozenset[int] = frozenset(),
        limit: int = LARGEST_JSON,
    ) -> tuple[Head, bytes]:
        """Return the answer to a GET below GBIF's URL: status 200 with a JSON object, or a status in ``expected``.

        ``owner`` is whose dataset it is for, ``about`` names what is requested. Raises what ``refusal_of`` returns for
        any other status, DatasetInvalid for an answer of more than ``limit`` bytes, and connection errors. Cancelling
        drops the request.
        """
        tried = 0
        while True:
            try:
                return _checked(*await self._once(owner, path, parameters, limit), about, expected)
            except DataMoverError as error:
                usual = self._patience.first_pause * 2**tried
                pause = usual if error.retry_after is None else error.retry_after
                tried += 1
                if not error.retryable or tried >= self._patience.tries or pause > self._patience.longest_pause:
                    raise
                log.info("GBIF is asked again in {pause:.1f} s: {error}", pause=pause, error=error)
                self._quiet_until = max(self._quiet_until, self._clock.seconds() + pause)

    async def _once(
        self, owner: str, path: str, parameters: Mapping[str, str] | None, limit: int
    ) -> tuple[Head, bytes]:
        async with self._slots.held(owner):
            # A pause that GBIF asks for holds for all requests.
            while (pause := self._quiet_until - self._clock.seconds()) > 0:
                await deferLater(self._clock, pause, lambda: None)
            asked = self._treq.get(f"{self._url}{path}", params=parameters, headers=JSON)
            return await whole(await asked, limit)


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
    """Call ``ask`` for each item, ``AT_ONCE`` at a time, and ``take`` with the results in the items' order.

    Completes when the last was taken; raises the first error in order, when nothing is in flight any more. Cancelling
    cancels what is in flight.
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
