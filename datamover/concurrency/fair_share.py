"""Fair shares of a limited resource, refused or waited for.

Nobody may hold more than is left over: a single holder gets at most half, the next half of the rest, and so on, so that
newcomers always find something (the dynamic thresholds of Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", 1998, with a factor of 1). The last units are reserved for those who hold nothing.
"""

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from twisted.internet.defer import Deferred

from datamover.errors import Unavailable


class FairShare:
    """A resource that is taken and given back in whole units: connections, bytes, threads, calls.

    Holders are told apart by name: a client's, or the address of one that has not logged in.
    """

    def __init__(
        self,
        total: Callable[[], int],
        each: Callable[[], int] | None = None,
        *,
        single: Callable[[], int] = lambda: 1,
        kept: bool = True,
    ) -> None:
        """``total`` and ``each`` return the units there are now, in all and for one holder.

        A holder that has nothing yet may take up to ``single`` units even if they are the last. Lowering a limit takes
        nothing back. If none are ``kept`` for newcomers, one holder may take all: where each is soon given back, and
        goes by turns (``FairQueue``).
        """
        self._total = total
        self._each = total if each is None else each
        self._single = single
        self._kept = kept
        self._taken: Counter[str] = Counter()
        self._all = 0

    def take(self, who: str, amount: int = 1, *, beyond: int = 0) -> bool:
        """Take ``amount`` units for ``who``; return False if there are too few.

        ``beyond`` raises the total for this call.
        """
        taken = self._taken[who]
        left = self._total() + beyond - self._all - amount
        if left < 0 or taken + amount > self._each():
            return False
        if self._kept and taken + amount > left and (taken or amount > self._single()):
            return False
        self._taken[who] = taken + amount
        self._all += amount
        return True

    def give(self, who: str, amount: int = 1) -> None:
        """Give back units that were taken."""
        self._taken[who] -= amount
        self._all -= amount
        if self._taken[who] <= 0:
            del self._taken[who]

    @contextmanager
    def held(self, who: str, refusal: str) -> Iterator[None]:
        """Hold one unit while a block runs; raises Unavailable with the message ``refusal`` if there are too few."""
        if not self.take(who):
            raise Unavailable(refusal)
        try:
            yield
        finally:
            self.give(who)

    def of(self, who: str) -> int:
        """Return the units that one holder has."""
        return self._taken[who]

    @property
    def all(self) -> int:
        """The units that are taken, by all holders."""
        return self._all

    def __len__(self) -> int:
        """Return the number of holders."""
        return len(self._taken)


class FairRoom:
    """Bytes of a FairShare that one holder takes in blocks, as what they are for grows, and gives back together."""

    def __init__(self, share: FairShare, who: str, block: int) -> None:
        """What fits in one block needs no room."""
        self._share = share
        self._who = who
        self._block = block
        self._taken = 0

    def reach(self, size: int) -> bool:
        """Take room for ``size`` bytes in all; return False if there is too little."""
        if size <= max(self._taken, self._block):
            return True
        more = -(-(size - self._taken) // self._block) * self._block
        if not self._share.take(self._who, more):
            return False
        self._taken += more
        return True

    def give(self) -> None:
        """Give everything back."""
        taken, self._taken = self._taken, 0
        if taken:
            self._share.give(self._who, taken)


class FairQueue:
    """A FairShare whose units are waited for: each goes to whoever waits and was served longest ago."""

    def __init__(self, share: FairShare) -> None:
        self._share = share
        self._waiting: dict[str, deque[Deferred[None]]] = {}
        """Those who wait for each holder's next unit; the first holder is the next to be served."""

    def __len__(self) -> int:
        """Return the number of units that are waited for."""
        return sum(map(len, self._waiting.values()))

    async def take(self, who: str) -> None:
        """Take one unit, as soon as there is one; cancelling leaves the queue."""
        if self._share.take(who):
            return
        queue = self._waiting.setdefault(who, deque())
        served: Deferred[None] = Deferred()
        queue.append(served)
        try:
            await served
        except BaseException:
            queue.remove(served)
            if not queue and self._waiting.get(who) is queue:
                del self._waiting[who]
            raise

    @asynccontextmanager
    async def held(self, who: str) -> AsyncIterator[None]:
        """Hold one unit while a block runs, once there is one; cancelling leaves the queue."""
        await self.take(who)
        try:
            yield
        finally:
            self.give(who)

    def give(self, who: str) -> None:
        """Give one unit back."""
        self._share.give(who)
        for other in list(self._waiting):
            # A caller that was just served may have given its unit back, and so served others of the list.
            if other in self._waiting and self._share.take(other):
                queue = self._waiting.pop(other)
                served = queue.popleft()
                if queue:
                    self._waiting[other] = queue
                served.callback(None)


class FairPlace:
    """A unit of a FairQueue that one holder takes when it is first needed, and gives back when a piece of work ends."""

    def __init__(self, queue: FairQueue, who: str) -> None:
        self._queue = queue
        self._who = who
        self._taken = self._ended = False

    async def take(self) -> None:
        """Take the unit, unless it is taken; nothing after ``end``."""
        if self._taken or self._ended:
            return
        await self._queue.take(self._who)
        self._taken = True
        if self._ended:
            self.give()

    def give(self) -> None:
        """Give the unit back, if it is taken; it may be taken again."""
        if self._taken:
            self._taken = False
            self._queue.give(self._who)

    def end(self) -> None:
        """Give the unit back for good."""
        self._ended = True
        self.give()
