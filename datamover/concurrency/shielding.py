"""Waiting for calls that cannot be stopped half-way, whatever is cancelled."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def finish_despite_cancel(
    call: Deferred[T], discard: Callable[[T], object] = lambda _: None, hurry: Callable[[], object] = lambda: None
) -> T:
    """Wait until a call has ended, even if cancelled meanwhile, so that its effects are never still to come.

    Returns or raises the call's result. If cancelled, ``hurry`` is called so that the call ends soon; its result goes
    to ``discard``, and CancelledError is raised.
    """
    ended: list[T | Failure] = []
    waiting: list[Deferred[None]] = []

    def end(result: "T | Failure") -> None:  # In quotes: else the union is made at every call.
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
