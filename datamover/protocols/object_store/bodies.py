"""The bodies of requests that store something: cut short only while the service cannot have all of one."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.protocols.http.request_body import SlicedBody

SLICED = 2**18
"""Bytes; larger bodies are sent in slices, so that a slow network is told from one that stands still."""

T = TypeVar("T")


def body_of(data: bytes) -> bytes | SlicedBody:
    """Return the body of a request that sends ``data``."""
    return data if len(data) <= SLICED else SlicedBody(data)


async def answered(asking: Coroutine[Any, Any, T], body: bytes | SlicedBody) -> T:
    """Return the answer to a request with that body.

    Cancelling drops the connection while the body is being sent. Once all of it is, its answer is awaited, for the
    service may store it whether or not anybody waits, even after what is there of the upload was removed.
    """
    answer = Deferred.fromCoroutine(asking)

    def hurry() -> None:
        if isinstance(body, SlicedBody) and not body.sent:
            answer.cancel()

    return await finish_despite_cancel(answer, hurry=hurry)
