"""How much there is of a thing for everybody, and how much one may have of it. Pure.

Nobody has more than is left for the others: who is alone has half at most, the next half of the rest, and so on, so
that whoever comes later finds something (the dynamic thresholds of Choudhury and Hahne, "Dynamic queue length
thresholds for shared-memory packet switches", 1998, with a factor of 1). The last pieces are for those who have none.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from datamover.errors import Unavailable


class FairShare:
    """Connections, bytes, threads, calls: anything that is taken, in whole numbers, and given back.

    Whoever takes is told apart by a name: a client's, or that of where a stranger comes from.
    """

    def __init__(
        self,
        total: Callable[[], int],
        each: Callable[[], int] | None = None,
        *,
        single: Callable[[], int] = lambda: 1,
    ) -> None:
        """``total`` and ``each`` tell how much there is now, in all and for one; what was taken before stays taken.

        So much as ``single`` is given of what is left, be it the last, to one that has nothing yet.
        """
        self._total = total
        self._each = total if each is None else each
        self._single = single
        self._taken: Counter[str] = Counter()
        self._all = 0

    def take(self, who: str, amount: int = 1, *, beyond: int = 0) -> bool:
        """Tell whether there was so much for ``who``, and take it; there is ``beyond`` more for this one."""
        taken = self._taken[who]
        left = self._total() + beyond - self._all - amount
        if left < 0 or taken + amount > self._each():
            return False
        if taken + amount > left and (taken or amount > self._single()):
            return False
        self._taken[who] = taken + amount
        self._all += amount
        return True

    def give(self, who: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self._taken[who] -= amount
        self._all -= amount
        if self._taken[who] <= 0:
            del self._taken[who]

    @contextmanager
    def held(self, who: str, refusal: str, amount: int = 1) -> Iterator[None]:
        """Take for as long as a block runs; raises Unavailable, which says ``refusal``, where there is none left."""
        if not self.take(who, amount):
            raise Unavailable(refusal)
        try:
            yield
        finally:
            self.give(who, amount)

    def of(self, who: str) -> int:
        """Return what one has."""
        return self._taken[who]

    @property
    def all(self) -> int:
        """What is taken."""
        return self._all

    def __len__(self) -> int:
        """Return how many have something."""
        return len(self._taken)
