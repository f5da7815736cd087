"""Waiting for the end of what cannot be stopped half-way, whoever wants to stop."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def finish_despite_cancel(
    call: Deferred[T], discard: Callable[[T], object] = lambda _: None, hurry: Callable[[], object] = lambda: None
) -> T:
    """Wait until a call has ended, also when cancelled: what it does is then done, not to come.

    Returns or raises what came of it; a cancelled call's result goes to ``discard`` before CancelledError is raised.
    ``hurry`` is called at each cancelling, to have the call end soon.
    """
    ended: list[T | Failure] = []
    waiting: list[Deferred[None]] = []

    def end(result: T | Failure) -> None:
        ended.append(result)
        for waiter in waiting:
            waiter.callback(None)

    call.addBoth(end)
    cancelled = False
    while not ended:
        waiting[:] = [Deferred()]
        try:
            await waiting[0]
        except CancelledError:
            cancelled = True
            hurry()
    result = ended[0]
    if cancelled:
        if not isinstance(result, Failure):
            discard(result)
        raise CancelledError
    if isinstance(result, Failure):
        assert result.value is not None
        raise result.value
    return result
