"""Figures as people read them in a terminal. Pure."""

from datetime import UTC, datetime

from datamover.text import quantities


def size(count: float | None) -> str:
    """Return bytes in decimal units: 1.2 GB; "?" where they are not known."""
    return "?" if count is None else quantities.size(count)


def rate(count: float | None) -> str:
    """Return bytes a second; "" for 0 and None."""
    return f"{size(count)}/s" if count else ""


def percentage(done: int, total: int | None) -> str:
    """Return how much is done, in percent without the sign; "" where the total is 0 or not known."""
    return f"{100 * done // total}" if total else ""


def duration(seconds: float) -> str:
    """Return a time in its two largest units: 3 h 12 min."""
    whole = max(0, round(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was; "" for None."""
    return duration((datetime.now(UTC) - moment).total_seconds()) if moment else ""


def at(moment: datetime) -> str:
    """Return a moment, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
