"""Slow down logins after failed ones.

Failures are counted by the address that they came from and by the name that they tried, so that guessing is slow for
many names from one address and for one name from many addresses. The number of counters is bounded.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from datamover.bounds.door import (
    FIRST_LOGIN_PAUSE,
    FREE_LOGIN_FAILURES,
    LOGIN_FAILURES_FORGOTTEN,
    LONGEST_LOGIN_PAUSE,
    MOST_FAILURES_COUNTED,
)

REMEMBERED = 1024
"""Addresses whose parsed form is cached."""


class Failures:
    """The failed logins of the last minutes, in memory only."""

    def __init__(
        self, seconds: Callable[[], float], *, first: float = FIRST_LOGIN_PAUSE, longest: float = LONGEST_LOGIN_PAUSE
    ) -> None:
        """Pauses double from ``first`` to ``longest`` seconds."""
        self._seconds = seconds
        self._first = first
        self._longest = longest
        self._counts: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def pause(self, name: str, address: str) -> float:
        """Return the seconds that a login as ``name`` from ``address`` waits before it is checked."""
        count = max(self._count(key) for key in _keys(name, address))
        if count < FREE_LOGIN_FAILURES:
            return 0.0
        return float(min(self._longest, self._first * 2 ** min(count - FREE_LOGIN_FAILURES, 32)))

    def add(self, name: str, address: str) -> None:
        """Count a failed login."""
        for key in _keys(name, address):
            self._counts[key] = (self._count(key) + 1, self._seconds())
            self._counts.move_to_end(key)
        while len(self._counts) > MOST_FAILURES_COUNTED:
            self._counts.popitem(last=False)

    def _count(self, key: bytes) -> int:
        count, at = self._counts.get(key, (0, 0.0))
        return count if self._seconds() - at < LOGIN_FAILURES_FORGOTTEN else 0


@lru_cache(maxsize=REMEMBERED)
def client_network(address: str) -> str:
    """Return the network that stands for one client: an IPv4 address itself, or the /64 of an IPv6 address."""
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
    """Return whether an address is this machine's own. A Unix socket has an empty address."""
    try:
        return not address or ip_address(address).is_loopback
    except ValueError:
        return False


def _keys(name: str, address: str) -> tuple[bytes, bytes]:
    """Return the counters' keys, which have a fixed size whatever the length of the name."""
    return _digest("name", name), _digest("address", client_network(address))


def _digest(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
