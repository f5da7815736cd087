"""The text log: line by line what Twisted's own would say."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from twisted.logger import LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure

from datamover.monitor.text_logs import TextLines
from datamover.text.printable import lines

WHEN = 1_790_000_000.25


class Awkward:
    """Something that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("never to be seen")

    __str__ = __repr__


def failure() -> Failure:
    return Failure(ValueError("of the work"))  # type: ignore[no-untyped-call]


EVENTS: list[dict[str, Any]] = [
    {},
    {"log_format": ""},
    {"log_format": "hello"},
    {"log_format": None},
    {"log_format": b"bytes {a}", "a": 1},
    {"log_format": "two\nlines"},
    {"log_format": "moved {file!r} in {seconds:.1f} s", "file": "a\nb", "seconds": 2.25},
    {"log_format": "{a.real} of {b[0]} and {b[-1]}", "a": 4, "b": {"0": "x", "-1": "y"}},
    {"log_format": "{call()} of {name}", "call": lambda: "called", "name": "n"},
    {"log_format": "{missing}"},
    {"log_format": "{0} {}"},
    {"log_format": "unbalanced {"},
    {"log_format": "{awkward}", "awkward": Awkward()},
    {"log_format": "{a:{width}}", "a": "x", "width": 5},
    {"log_format": "broken", "log_failure": failure()},
    {"log_format": "", "log_failure": failure()},
    {"log_format": "hello", "log_time": None},
    {"log_format": "hello", "log_system": "-"},
    {"log_format": "hello", "log_system": "of\nlines"},
    {"log_format": "hello", "log_level": None},
    {"log_format": "hello", "log_namespace": None},
]


@pytest.fixture(autouse=True)
def somewhere() -> Iterator[None]:
    """Be in a time zone with summer time."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Vienna"
    time.tzset()
    yield
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("event", EVENTS)
def test_the_line_is_twisteds(event: dict[str, Any]) -> None:
    """Whatever the event."""
    whole = {"log_time": WHEN, "log_namespace": "datamover.engine", "log_level": LogLevel.info} | event
    assert TextLines()(whole) == formatEventAsClassicLogText(whole)


@given(some.floats(0, 4e9), some.text(), some.dictionaries(some.sampled_from("abc"), some.integers() | some.text()))
def test_any_words(when: float, template: str, fields: dict[str, Any]) -> None:
    """Whatever the words; what does not print is escaped."""
    when = float(int(when)) + 0.5  # Half a microsecond before a second Twisted shows the next one.
    event = {"log_time": when, "log_namespace": "n", "log_level": LogLevel.warn, "log_format": template} | fields
    twisteds = formatEventAsClassicLogText(event)
    assert TextLines()(event) == (None if twisteds is None else lines(twisteds))


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x1b", "\x85", "\r", "\u202e", "\u200b", "\ud800"])
def test_one_event_is_one_line(character: str) -> None:
    """What ends a line, moves the cursor or turns the direction of writing is shown by its escape."""
    whole = {"log_time": WHEN, "log_format": "{label} is new", "label": f"a{character}b"}
    for event in (whole, {**whole, "log_failure": failure()}):
        line = TextLines()(event)
        assert line is not None
        assert f"a{character.encode('unicode_escape').decode()}b is new" in line
        assert character not in line


def test_every_second_has_its_stamp() -> None:
    """Also when the clock goes backwards, and where summer time begins."""
    text = TextLines()
    for when in (1_774_745_999.9, 1_774_746_000.0, 1_774_746_000.7, 1_774_745_999.0):
        event = {"log_time": when, "log_format": "x"}
        assert text(event) == formatEventAsClassicLogText(event)
