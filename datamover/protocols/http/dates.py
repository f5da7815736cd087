"""Dates in HTTP headers (RFC 9110, section 5.6.7). Pure."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_ZONE = r"(?:GMT|UTC?|Z|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>[0-5]\d))"
_WEEKDAY = r"(?:[a-z]{3,9},?[ ]*)?"
_DATE = r"(?P<day>\d{1,2})[ -](?P<month>[a-z]{3})[a-z]*[ -](?P<year>\d{4}|\d{2})"
_FORMS = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        # "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", and what is close to them
        rf"{_WEEKDAY}{_DATE}[ ]+{_CLOCK}(?:[ ]*{_ZONE})?",
        # "Sun Nov  6 08:49:37 1994", as C's asctime has it
        rf"{_WEEKDAY}(?P<month>[a-z]{{3}})[ ]+(?P<day>\d{{1,2}})[ ]+{_CLOCK}(?:[ ]+{_ZONE})?[ ]+(?P<year>\d{{4}})",
    )
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def http_date(text: str | None) -> float | None:
    """Return the POSIX seconds of a date from the year 1 to 9999; None for anything else or an ambiguous date.

    Reads the three forms of the RFC, also with a numeric zone; a date without a zone is UTC.
    """
    for form in _FORMS:
        match = form.fullmatch((text or "").strip())
        if match is not None:
            return _seconds(match.groupdict())
    return None


def _seconds(parts: dict[str, str | None]) -> float | None:
    month = (parts["month"] or "").lower()
    if month not in _MONTHS:
        return None
    day, hour, minute, second = (int(parts[part] or 0) for part in ("day", "hour", "minute", "second"))
    offset = timedelta(hours=int(parts["hours"] or 0), minutes=int(parts["minutes"] or 0))
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        moment = datetime(_year(parts["year"] or ""), _MONTHS.index(month) + 1, day, tzinfo=UTC)
    except ValueError:
        return None
    # A leap second is, in POSIX seconds, the one after it.
    since = moment - _EPOCH + timedelta(hours=hour, minutes=minute, seconds=second)
    return (since + offset if parts["sign"] == "-" else since - offset).total_seconds()


def _year(digits: str) -> int:
    """Return a year; one of two digits is from 1970 to 2069, as in cookies and in curl (RFC 6265, section 5.1.1)."""
    year = int(digits)
    return year if len(digits) == 4 else year + (1900 if year >= 70 else 2000)
