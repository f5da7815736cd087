"""What goes over the wire can be read by every client, and says what was meant."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any
from xmlrpc.client import Fault, dumps, loads

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.api import wire
from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.jobs.requests import finish

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def seen(value: Any) -> Any:
    """Return what a client reads."""
    (value,), _ = loads(finish(wire.answering(value)))
    return value


@given(VALUES)
def test_every_answer_can_be_read(value: Any) -> None:
    """Whatever text an answer holds, it is XML, and is read as it was but for what XML cannot carry."""
    assert seen(value) == wire.outgoing(value)


@given(st.text())
def test_every_fault_can_be_read(text: str) -> None:
    """The same goes for a Fault's message."""
    with pytest.raises(Fault) as caught:
        loads(wire.finished(Fault(1001, text)))
    assert caught.value.faultString == wire.legible(text)


def test_an_answer_is_the_one_that_python_gives() -> None:
    """Written element by element, it is the same document."""
    value = [{"a": 1, "b": [True, "x"]}, [], "y"]
    assert loads(finish(wire.answering(value))) == loads(dumps((value,), methodresponse=True))


def test_values_go_out_plainly() -> None:
    """No nil, no i8, times as text in UTC, carriage returns as they are."""
    at = datetime(2026, 11, 23, 20, 8, 0, 7, timezone(timedelta(hours=2)))
    assert seen(
        {"at": at, "none": None, "long": 2**31, "least": -(2**31), "text": "a\r\nb\x00\ud800", "part": 1 / 3}
    ) == {
        "at": "2026-11-23T18:08:00Z",
        "long": 2147483648.0,
        "least": -2147483648,
        "text": "a\r\nb\ufffd\ufffd",
        "part": 0.333,
    }
    assert wire.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


def read(body: bytes, **bounds: int) -> Any:
    return finish(wire.reading(BytesIO(body), **bounds))


@pytest.mark.parametrize("element", [b"<i4>1</i4>", b"<value/>", b"<x/>", b"<array></array>"])
def test_elements_are_counted(element: bytes) -> None:
    """Whatever a body is made of, it is made of so many elements and no more."""
    body = b"<methodCall><methodName>m</methodName><params>" + element * 97 + b"</params></methodCall>"
    assert read(body, most=100)[0] == "m"
    with pytest.raises(RequestTooLarge, match="more than 99 elements"):
        read(body, most=99)


BODIES = st.binary() | st.lists(
    st.sampled_from(
        [
            *("methodCall", "methodName", "params", "param", "value", "array", "data", "struct", "member", "name"),
            *("int", "i4", "i8", "double", "boolean", "string", "base64", "dateTime.iso8601", "nil", "bigdecimal"),
            *("fault", "x:array", "x", "ex:nil"),
        ]
    ).flatmap(lambda tag: st.sampled_from([f"<{tag}>", f"</{tag}>", f"<{tag}/>", f"<{tag} a='1'>"]))
    | st.sampled_from(
        ["1", "-1", "1e999", "nan", "&amp;", "&#10;", "]]>", "<![CDATA[", "<!--", "-->", "<?x?>", "jobs.list"]
    )
    | st.text(max_size=3),
    max_size=30,
).map(lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass"))


@given(BODIES)
def test_no_body_is_more_than_refused(body: bytes) -> None:
    """Whatever is sent, it is a call or it is refused in a sentence."""
    with suppress(InvalidRequest):
        name, parameters = read(body)
        assert isinstance(name, str)
        assert isinstance(parameters, tuple)
