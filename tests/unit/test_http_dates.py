"""Which moment a date in a header is: exactly that, or none."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.protocols.http.dates import http_date

MOMENT = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", MOMENT),
        ("tue, 14 nov 2023 22:13:20 gmt", MOMENT),
        ("14 Nov 2023 22:13:20 UTC", MOMENT),
        ("Tue, 14 November 2023 22:13:20", MOMENT),
        (" Tue,14 Nov 2023  22:13:20 Z ", MOMENT),
        ("Wed, 15 Nov 2023 00:13:20 +0200", MOMENT),
        ("Tue, 14 Nov 2023 16:43:20 -05:30", MOMENT),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", MOMENT),
        ("Tue, 14-Nov-2023 22:13:20 GMT", MOMENT),
        ("Tue Nov 14 22:13:20 2023", MOMENT),
        ("Sun Nov  6 08:49:37 1994", 784_111_777.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777.0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1.0),
        ("Mon, 01 Jan 1601 00:00:00 GMT", -11_644_473_600.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", -62_135_596_800.0),
        ("Sun, 07 Feb 2106 06:28:16 GMT", 2.0**32),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800.0),
    ],
)
def test_dates(text: str, seconds: float) -> None:
    """The three forms of RFC 9110, and what is close to them, are their moment, however long ago or ahead."""
    assert http_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        "-1",
        "yesterday",
        "1700000000",
        "Tue, 14 Nov 2023 22:13:20 CET",
        "Tue, 14 Nov 2023 22:13:20 GMT+1",
        "Tue, 14 Nov 2023 22:13:20 PM",
        "Tue, 14 Nov 2023",
        "Tue, 14 Now 2023 22:13:20 GMT",
        "Fri, 31 Feb 2023 22:13:20 GMT",
        "Tue, 14 Nov 2023 24:13:20 GMT",
        "Tue, 14 Nov 2023 22:60:20 GMT",
        "Tue, 14 Nov 2023 22:13:61 GMT",
        "Sat, 01 Jan 0000 00:00:00 GMT",
        "Sat, 01 Jan 10000 00:00:00 GMT",
        "Sat, 01 Jan 123 00:00:00 GMT",
        "Tue, 14 Nov 2023 22:13:20 GMT\x01",
        "Tue, 14 Nov ٢٠٢٣ 22:13:20 GMT",
    ],
)
def test_what_is_no_date(text: str | None) -> None:
    """What is no date, or not for certain the one that it seems, is none, never another."""
    assert http_date(text) is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_second_of_ten_thousand_years(moment: datetime) -> None:
    """A date that a server formats comes back as the very second."""
    moment = moment.replace(microsecond=0)
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    text = f"{moment:%a}, {moment.day:02} {months[moment.month - 1]} {moment.year:04} {moment:%H:%M:%S} GMT"
    assert http_date(text) == moment.timestamp()


@pytest.mark.parametrize(("digits", "year"), [("70", 1970), ("99", 1999), ("00", 2000), ("69", 2069)])
def test_a_year_of_two_digits(digits: str, year: int) -> None:
    """A year of two digits is one from 1970 to 2069: the beginning of POSIX time is seen more often than 2070."""
    assert http_date(f"Sunday, 01-Jan-{digits} 00:00:00 GMT") == datetime(year, 1, 1, tzinfo=UTC).timestamp()
