"""How much of a thing there is for everybody, and how much one address may have of it. Pure."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address

from datamover.failures import REMEMBERED, origin


class Share:
    """Connections, or bytes: so many in all, so many for each address, and some more for this machine's own.

    Whoever takes all that one address may have leaves the rest to others; whoever takes everything from many addresses
    still leaves ``reserved`` to loopback and Unix sockets, so that the service can be looked after.
    """

    def __init__(self, bounds: Callable[[], tuple[int, int]], *, reserved: int = 0) -> None:
        """``bounds`` tells how much there is now, in all and for each address; what was taken before stays taken."""
        self._bounds = bounds
        self._reserved = reserved
        self._taken: Counter[str] = Counter()
        self._all = 0

    def take(self, address: str, amount: int = 1) -> bool:
        """Tell whether there was so much for an address, and take it."""
        who = origin(address)
        total, each = self._bounds()
        total += self._reserved if _is_local(address) else 0
        if self._all + amount > total or self._taken[who] + amount > each:
            return False
        self._taken[who] += amount
        self._all += amount
        return True

    def give(self, address: str, amount: int = 1) -> None:
        """Give back what was taken."""
        who = origin(address)
        self._taken[who] -= amount
        self._all -= amount
        if not self._taken[who]:
            del self._taken[who]

    def __len__(self) -> int:
        """Return how many addresses have something."""
        return len(self._taken)


@lru_cache(maxsize=REMEMBERED)
def _is_local(address: str) -> bool:
    """Tell whether something comes from this machine; a Unix socket's address is empty."""
    try:
        return not address or ip_address(address).is_loopback
    except ValueError:
        return False
