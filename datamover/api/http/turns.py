"""Whose turn it is: what the reactor's thread does for clients, a little at a time, so that nobody waits for the rest.

Work waits in a queue for each of those whom it is for; served is who has had the least of the time, as in start-time
fair queuing (Goyal, Vin and Cheng, 1996). So somebody who asks now and then goes before those who have always more to
do. One turn of the reactor takes a bounded time for all of it, and goes on in the next.
"""

from collections import deque
from collections.abc import Generator
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

log = Logger()

T = TypeVar("T")

TURN = 0.001
"""Seconds that a turn of the reactor takes for what waits here; what is begun then is ended."""
PIECE = 0.002
"""Seconds of long work that are done at a turn."""


class Flow(Protocol):
    """Something with work to do."""

    who: str
    """Whom it is for."""

    def advance(self) -> None:
        """Do a bounded piece of it; ask for another turn where more is to be done."""


class Turns:
    """Everything that waits for a turn."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._queues: dict[str, deque[Flow]] = {}
        self._order: list[tuple[float, int, str]] = []
        """When each of those who wait began their share, in seconds of work that was done."""
        self._ahead: dict[str, float] = {}
        """Of those who had more than others, and wait for nothing now: when their next share begins."""
        self._now = 0.0
        self._number = 0
        self._due = False
        self._next: list[Flow] | None = None
        """What is asked for in the midst of a turn: it belongs to the next one."""

    def ask(self, flow: Flow) -> None:
        """Have ``flow`` advanced in one of the next turns, once in each; it must not be waiting already."""
        if self._next is not None:
            self._next.append(flow)
            return
        queue = self._queues.get(flow.who)
        if queue is None:
            self._queues[flow.who] = deque((flow,))
            self._stand(flow.who, max(self._now, self._ahead.pop(flow.who, 0.0)))
        else:
            queue.append(flow)
        if not self._due:
            self._due = True
            self._reactor.callLater(0, self._turn)

    def run(self, who: str, steps: Generator[None, None, T]) -> "Deferred[T]":
        """Run a generator to its end, a piece at a turn; fires with what it returns. Cancelling stops it."""
        return _Work(self, who, steps).done

    def _stand(self, who: str, start: float) -> None:
        self._number += 1
        heappush(self._order, (start, self._number, who))

    def _turn(self) -> None:
        self._due = False
        asked: list[Flow] = []
        self._next = asked
        seconds = self._reactor.seconds
        began = seconds()
        until = began + TURN
        while self._order:
            start, _, who = heappop(self._order)
            self._now = start
            queue = self._queues[who]
            flow = queue.popleft()
            try:
                flow.advance()
            except Exception:  # One that is broken keeps none of the others waiting.
                log.failure("a turn of {who} went wrong", who=who)
            now = seconds()
            if queue:
                self._stand(who, start + now - began)
            else:
                del self._queues[who]
                self._ahead[who] = start + now - began
            began = now
            if now >= until:
                break
        self._next = None
        for flow in asked:
            self.ask(flow)
        if not self._queues:
            # Nobody waits: there is nobody to be fair to.
            self._ahead.clear()
        elif not self._due:
            self._due = True
            self._reactor.callLater(0, self._turn)


class _Work:
    """A generator that is run."""

    def __init__(self, turns: Turns, who: str, steps: Generator[None, None, Any]) -> None:
        self.who = who
        self.done: Deferred[Any] = Deferred(lambda _: steps.close())
        self._turns = turns
        self._steps = steps
        turns.ask(self)

    def advance(self) -> None:
        seconds = self._turns._reactor.seconds
        until = seconds() + PIECE
        try:
            while not self.done.called:
                next(self._steps)
                if seconds() >= until:
                    self._turns.ask(self)
                    return
        except StopIteration as end:
            self.done.callback(end.value)
        except BaseException:
            self.done.errback()
