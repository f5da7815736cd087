"""The time limit for listings of directories and for the properties of files.

The idle timeout does not end an answer of which a byte comes now and then.
"""

from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.bounds.servers import LISTING_SECONDS
from datamover.errors import TimedOut

T = TypeVar("T")


def in_time(reading: Coroutine[Any, Any, T], clock: IReactorTime) -> Deferred[T]:
    """Fire with what ``reading`` returns; after ``LISTING_SECONDS`` cancel it and fail with TimedOut."""
    return Deferred.fromCoroutine(reading).addTimeout(LISTING_SECONDS, clock, onTimeoutCancel=_too_slow)


def _too_slow(_: object, seconds: float) -> NoReturn:
    raise TimedOut(
        f"a listing has not come to its end within {seconds:g} s, though its bytes came now and then; look at the "
        "server's load and at the network to it"
    )
