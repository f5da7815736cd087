"""Logins that failed lately, and how long the next one has to wait for it.

Counted for the address that they came from and for the name that they tried, so that neither many names from one place
nor one name from many places is fast. What is kept has a bound, however many addresses and names there are.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

FREE = 3
"""Failures that cost nothing: people mistype."""
FORGOTTEN = 900.0
"""Seconds after which a failure counts no more, unless another came."""
MOST = 8192
"""Addresses and names that are remembered; those that failed longest ago go first."""

REMEMBERED = 1024
"""Addresses that are not taken apart anew with each request."""


class Failures:
    """The failures of the last minutes; memory only."""

    def __init__(self, seconds: Callable[[], float], *, first: float = 0.25, longest: float = 5.0) -> None:
        """``first`` and ``longest`` are seconds: pauses double from the one to the other."""
        self._seconds = seconds
        self._first = first
        self._longest = longest
        self._counts: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def pause(self, name: str, address: str) -> float:
        """Return the seconds that a login as ``name`` from ``address`` has to wait before it is looked at."""
        count = max(self._count(key) for key in _keys(name, address))
        if count < FREE:
            return 0.0
        return float(min(self._longest, self._first * 2 ** min(count - FREE, 32)))

    def add(self, name: str, address: str) -> None:
        """Count a login that was wrong."""
        for key in _keys(name, address):
            self._counts[key] = (self._count(key) + 1, self._seconds())
            self._counts.move_to_end(key)
        while len(self._counts) > MOST:
            self._counts.popitem(last=False)

    def _count(self, key: bytes) -> int:
        count, at = self._counts.get(key, (0, 0.0))
        return count if self._seconds() - at < FORGOTTEN else 0


@lru_cache(maxsize=REMEMBERED)
def origin(address: str) -> str:
    """Return what stands for whoever is behind an address: itself, of IPv6 the /64 that one customer has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"


@lru_cache(maxsize=REMEMBERED)
def is_local(address: str) -> bool:
    """Tell whether something comes from this machine; a Unix socket's address is empty."""
    try:
        return not address or ip_address(address).is_loopback
    except ValueError:
        return False


def _keys(name: str, address: str) -> tuple[bytes, bytes]:
    """Return what is counted under: of a fixed size, whatever a stranger sends as a name."""
    return _digest("name", name), _digest("address", origin(address))


def _digest(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
