"""Many coroutines, of which a few run at a time."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, FirstError

T = TypeVar("T")


async def gather(calls: Iterable[Callable[[], Coroutine[Any, Any, T]]], at_once: int) -> list[T]:
    """Call each and return the results in order; at most ``at_once`` run at a time.

    The first error cancels the others and is raised when they have ended. Cancelling cancels all.
    """
    pending = list(enumerate(calls))
    pending.reverse()
    results: dict[int, T] = {}

    async def work() -> None:
        while pending:
            index, call = pending.pop()
            results[index] = await call()

    workers = [Deferred.fromCoroutine(work()) for _ in range(min(at_once, len(pending)))]
    try:
        await DeferredList(workers, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        pending.clear()
        for worker in workers:
            worker.cancel()
        await DeferredList(workers, consumeErrors=True)
    return [results[index] for index in sorted(results)]
