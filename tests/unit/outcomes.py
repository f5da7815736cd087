"""What a Deferred came to, for tests that turn no reactor."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def failure(deferred: "Deferred[Any]") -> BaseException | None:
    """Return what a Deferred failed with, and take it off; None where it has not."""
    found: list[BaseException | None] = []

    def take(reason: Failure) -> None:
        found.append(reason.value)

    deferred.addErrback(take)
    return found[0] if found else None
