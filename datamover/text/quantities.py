"""Amounts as people write them: 1 file, 2 files, 48.0 MB."""

_STEP = 1000
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 file`` or ``2 files``; ``plural`` is the noun with an s unless it is given."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def size(number: float) -> str:
    """Return a number of bytes with the decimal unit that keeps it short: 512 B, 48.0 MB, 120 MB."""
    if number < _STEP:
        return f"{number:.0f} B"
    value = float(number)
    for unit in _UNITS:
        value /= _STEP
        if value < 999.5 or unit == _UNITS[-1]:
            break
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"
