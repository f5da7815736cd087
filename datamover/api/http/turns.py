"""Share the reactor's thread fairly between clients, by start-time fair queuing (Goyal, Vin and Cheng, 1996).

Work waits in one queue for each client, and the next piece is done for the client that has used the least time. So a
client with an occasional call goes before those with a constant load. Each iteration of the reactor spends a bounded
time here; the rest waits for the next one.
"""

from collections import deque
from collections.abc import Generator
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from datamover.bounds.door import TURN_SECONDS, WORK_IN_TURN

log = Logger()

T = TypeVar("T")


class Flow(Protocol):
    """Work that is done in turns."""

    who: str
    """The client, or the network of one that has not logged in."""

    def advance(self) -> None:
        """Do a bounded piece of work, and ask for another turn if there is more."""


class Turns:
    """The work that waits for turns."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._queues: dict[str, deque[Flow]] = {}
        self._order: list[tuple[float, int, str]] = []
        """A heap of the waiting clients by their start tags, in seconds of work."""
        self._ahead: dict[str, float] = {}
        """The finish tags of clients that wait for nothing now, so that they cannot gain by pausing."""
        self._now = 0.0
        self._number = 0
        self._due = False
        self._next: list[Flow] | None = None
        """Work that is asked for during an iteration; it waits for the next one."""

    def ask(self, flow: Flow) -> None:
        """Have ``flow`` advanced once, in one of the next turns. It must not be waiting already."""
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
        """Run a generator in turns; fires with what it returns. Cancelling closes it."""
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
        until = began + TURN_SECONDS
        while self._order:
            start, _, who = heappop(self._order)
            self._now = start
            queue = self._queues[who]
            flow = queue.popleft()
            try:
                flow.advance()
            except Exception:  # A bug in one flow must not stop the others.
                log.failure("the work of {who} failed", who=who)
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
            # Nobody waits, so old tags have no meaning.
            self._ahead.clear()
        elif not self._due:
            self._due = True
            self._reactor.callLater(0, self._turn)


class _Work:
    """A generator that is run in turns."""

    def __init__(self, turns: Turns, who: str, steps: Generator[None, None, Any]) -> None:
        self.who = who
        self.done: Deferred[Any] = Deferred(lambda _: steps.close())
        self._turns = turns
        self._steps = steps
        turns.ask(self)

    def advance(self) -> None:
        seconds = self._turns._reactor.seconds
        until = seconds() + WORK_IN_TURN
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
