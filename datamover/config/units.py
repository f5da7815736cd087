"""Parse sizes, times, rates and permission bits as people write them.

Pure; every function takes any value and raises ValueError with what was expected.
"""

import re
from decimal import Decimal
from typing import Any

_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*(?:([kMGTP]?)B|([KMGTP])iB)?")
_LARGEST = 2**63 - 1
"""Bytes: the largest bigint of PostgreSQL."""
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 365_000 * 86_400.0
"""Seconds. Retentions are subtracted from the time, and PostgreSQL's timestamps begin in 4713 BC."""
_DURATION = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*(ms|s|m|h|d)?")


def parse_size(value: Any) -> int:
    """Return bytes: a whole number, or "200MB" (200·10⁶), "200MiB" (200·2²⁰)."""
    size = value
    if match := _SIZE.fullmatch(value) if isinstance(value, str) else None:
        number, decimal, binary = match.groups()
        size = int(Decimal(number) * (1024 ** _POWERS[binary] if binary else 1000 ** _POWERS[decimal or ""]))
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _LARGEST:
        raise ValueError('expected a size such as 4096, "200MB" or "200MiB", less than "8192PiB"')
    return size


def parse_duration(value: Any) -> float:
    """Return seconds: a number, or "30s", "10m", "2h", "90d", "250ms"."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) * _SECONDS[match[2] or ""] if match else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST:
        raise ValueError('expected a time such as 30, "30s", "10m" or "90d", at most "365000d"')
    return float(seconds)


def parse_rate(value: Any) -> int:
    """Return bytes a second: "200MB/s", or a size alone."""
    try:
        return parse_size(value.removesuffix("/s") if isinstance(value, str) else value)
    except ValueError:
        raise ValueError('expected a rate such as "200MB/s"') from None


def parse_mode(value: Any) -> int:
    """Return permission bits from an octal string such as "0644"."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('expected permission bits as a string, such as "0644"')
    return int(value, 8)


def positive(value: float) -> float:
    """Return a number; raises ValueError unless it is above 0."""
    if value <= 0:
        raise ValueError("expected more than 0")
    return value
