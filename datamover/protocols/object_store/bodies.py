"""Send bodies that a service stores. Once all of a body is sent, the request is no longer cancelled."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.protocols.http.request_body import SlicedBody

SLICED = 2**18
"""Bytes; larger bodies are sent in slices, so that a slow connection can be told from one that stalls."""

T = TypeVar("T")


def body_of(data: bytes) -> bytes | SlicedBody:
    """Return the body of a request that sends ``data``."""
    return data if len(data) <= SLICED else SlicedBody(data)


async def answered(asking: Coroutine[Any, Any, T], body: bytes | SlicedBody) -> T:
    """Return the answer to a request with that body.

    While the body is sent, cancelling drops the connection. After that the answer is awaited even so: the service may
    store the body at any time, and it must not do that after the upload was removed.
    """
    answer = Deferred.fromCoroutine(asking)

    def hurry() -> None:
        if isinstance(body, SlicedBody) and not body.sent:
            answer.cancel()

    return await finish_despite_cancel(answer, hurry=hurry)
