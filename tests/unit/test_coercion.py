"""Values of guessed types: what each is read as, and what is refused."""

from collections.abc import Callable
from typing import Any
from xmlrpc.client import Binary, DateTime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.requests import coercion
from datamover.requests.coercion import WrittenInt

NAN, INFINITE = float("nan"), float("inf")
READ: list[tuple[Callable[[object], object], dict[Any, Any]]] = [
    (coercion.text, {"": "", "é": "é", 0: "0", -5: "-5", 2**63: "9223372036854775808"}),
    (coercion.url, {"https://example.org": "https://example.org"}),
    (coercion.integer, {0: 0, "0": 0, "007": 7, "-5": -5, 2**63: 2**63, "9223372036854775808": 2**63}),
    (coercion.whole, {5: 5, "5": 5, 2.0**53: 2**53, -1.0: -1}),
    (coercion.number, {5: 5, 0.5: 0.5, "5": 5}),
    (coercion.yes_or_no, {True: True, False: False, "1": True, "0": False, "": False}),
]
REFUSED: list[tuple[Callable[[object], object], list[Any]]] = [
    (coercion.text, [None, True, False, 1.0, NAN, [], ["a"], {}, {"a": 1}, Binary(b"\xff"), Binary(b"\0"), b"a"]),
    (coercion.url, [5, None, True, 1.5, [], {}]),
    (coercion.struct, [None, "", "a", 0, 1.5, True, [1], [None], [[]]]),
    (coercion.array, [None, "", "a", 0, True, {"a": 1}, Binary(b"a"), b"a"]),
    (coercion.yes_or_no, [None, 2, -1, 1.0, 0.0, "yes", "true", "01", [], {}, DateTime("20260101T00:00:00")]),
    *(
        (
            reader,
            [None, True, False, "", " 1", "1 ", "1\n", "+1", "--1", "1e3", "1.0", "0x10", "1_0", "１", "²", "9" * 31],
        )
        for reader in (coercion.integer, coercion.whole, coercion.number)
    ),
    (coercion.integer, [1.0, [], {}, Binary(b"1")]),
    (coercion.whole, [1.5, NAN, INFINITE, [], {}]),
    (coercion.number, [NAN, INFINITE, -INFINITE, [], {}]),
]


@pytest.mark.parametrize(("reader", "values"), READ, ids=[reader.__name__ for reader, _ in READ])
def test_what_can_be_meant_is_read(reader: Callable[[object], object], values: dict[Any, Any]) -> None:
    """Each value is what it stands for, and of the type that it is meant to be."""
    for value, meant in values.items():
        assert (reader(value), type(reader(value))) == (meant, type(meant)), value


@pytest.mark.parametrize(("reader", "values"), REFUSED, ids=[reader.__name__ for reader, _ in REFUSED])
def test_what_cannot_be_meant_is_not_read(reader: Callable[[object], object], values: list[Any]) -> None:
    """A boolean is no number and no text, a double no text, and only plain ASCII digits are a number."""
    for value in values:
        assert reader(value) is None, value


def test_one_and_nought_stand_for_yes_and_no() -> None:
    """Languages without booleans have nothing else."""
    assert coercion.yes_or_no(1) is True
    assert coercion.yes_or_no(0) is False


def test_text_may_come_as_base64_or_as_a_time() -> None:
    """Of UTF-8, and as the time was written."""
    assert coercion.text(Binary("grün\n".encode())) == "grün\n"
    assert coercion.text(DateTime("20261128T12:00:00Z")) == "20261128T12:00:00Z"


def test_nil_in_a_struct_is_a_missing_key() -> None:
    """What else is in it stays, also what is empty or false; the given struct is not changed."""
    given_: dict[str, Any] = {"a": None, "b": 0, "c": "", "d": False, "e": []}
    assert coercion.struct(given_) == {"b": 0, "c": "", "d": False, "e": []}
    assert "a" in given_
    assert coercion.struct([]) == {}
    assert coercion.array({}) == ()


@given(st.text("0123456789+-", min_size=1, max_size=25))
def test_an_int_keeps_the_digits_that_it_was_written_in(digits: str) -> None:
    """As text it is what was sent, as a number its value; what are no digits are no int."""
    try:
        value = WrittenInt.read(f" {digits}\n")
    except ValueError:
        assert not digits.lstrip("+-").isdigit() or len(digits) - len(digits.lstrip("+-")) > 1
    else:
        assert coercion.text(value) == digits
        assert (value, coercion.integer(value), coercion.whole(value)) == (int(digits),) * 3
        assert type(coercion.whole(value)) is int


@pytest.mark.parametrize("text", ["", "1_0", "１", "0x1", "1.0", "1 0", "9" * 5000])
def test_what_is_no_int_is_refused(text: str) -> None:
    """Python's own int() would read some of it."""
    with pytest.raises(ValueError, match="int"):
        WrittenInt.read(text)


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (None, "nil"),
        (True, "True"),
        ({}, "a struct"),
        ([1], "an array"),
        (1.5, "1.5"),
        (10**40, "a number out of range"),
        ("https://example.org/a?key=s3cret", "'https://example.org/a?key=***'"),
        ("x" * 200, f"'{'x' * 98}…"),
        (Binary(b"\xff"), "base64 that is not text in UTF-8"),
        (Binary(b"https://example.org/a?key=s3cret"), "'https://example.org/a?key=***'"),
        (DateTime("20261128T12:00:00"), "'20261128T12:00:00'"),
    ],
)
def test_a_message_quotes_a_value_briefly(value: object, quoted: str) -> None:
    """Without what a URL may hold of a secret."""
    assert coercion.told(value) == quoted
