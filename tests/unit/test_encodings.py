"""The encoding that a body is read in: by its byte order mark, Content-Type or XML declaration."""

from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.api.http.encodings import charset_of
from datamover.api.xmlrpc import wire
from datamover.bounds.calls import BODY_SLICE
from datamover.errors import InvalidRequest
from datamover.requests.jobs import finish


def call(declared: str | None, text: str = "grün €") -> str:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    parameters = f"<params><param><value>{text}</value></param></params>"
    return f"{declaration}<methodCall><methodName>m</methodName>{parameters}</methodCall>"


def read(body: bytes, charset: str | None = None) -> Any:
    name, parameters = finish(wire.parse_call(BytesIO(body), charset=charset))
    assert name == "m"
    return parameters[0]


@pytest.mark.parametrize(
    "label",
    ["utf8", "UTF8", "UTF-8", "utf-8", "Utf_8", "u8", "unicode-1-1-utf-8", "utf-8-sig", "US-ASCII", "ascii", None],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_spelling_of_utf_8_is_read(label: str | None, mark: bytes) -> None:
    """In the declaration, in Content-Type alone, and in both; ASCII is a part of it."""
    assert read(mark + call(label).encode()) == "grün €"
    assert read(mark + call(None).encode(), label) == "grün €"
    assert read(mark + call(label).encode(), label) == "grün €"


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("iso-8859-1", "latin-1"),
        ("latin1", "latin-1"),
        ("Latin-1", "latin-1"),
        ("ISO-8859-15", "iso8859-15"),
        ("windows-1252", "cp1252"),
        ("GB2312", "gb2312"),
        ("Shift_JIS", "shift_jis"),
    ],
)
def test_other_encodings_are_read(label: str, codec: str) -> None:
    """Declared, or told by Content-Type alone."""
    text = "日本" if codec in ("gb2312", "shift_jis") else "grün"
    assert read(call(label, text).encode(codec)) == text
    assert read(call(None, text).encode(codec), label) == text


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", [None, "utf-16", "UTF-16LE", "utf-8"])
@pytest.mark.parametrize("charset", [None, "utf-16", "utf-8"])
def test_utf_16_shows_in_the_first_bytes(codec: str, declared: str | None, charset: str | None) -> None:
    """With a mark or without one, whatever is declared; what is declared as such and is not, is UTF-8."""
    assert read(call(declared).encode(codec), charset) == "grün €"
    assert read(call("utf-16").encode(), charset) == "grün €"


@pytest.mark.parametrize(
    ("declared", "charset", "codec"),
    [
        ("utf-8", "iso-8859-1", "latin-1"),
        ("iso-8859-1", "utf-8", "utf-8"),
        ("no-such", "utf-8", "utf-8"),
        ("iso-8859-1", "us-ascii", "utf-8"),
    ],
)
def test_content_type_wins_over_the_declaration(declared: str, charset: str, codec: str) -> None:
    """So RFC 7303 says."""
    assert read(call(declared, "grün").encode(codec), charset) == "grün"


@pytest.mark.parametrize("charset", ["iso-8859-1", "no-such", "utf-16"])
def test_a_mark_wins_over_content_type(charset: str) -> None:
    """So RFC 7303 says."""
    assert read(b"\xef\xbb\xbf" + call("iso-8859-1").encode(), charset) == "grün €"


@pytest.mark.parametrize(
    ("body", "charset", "message"),
    [
        (call("no-such").encode(), None, "the body is in 'no-such', says its XML declaration, which is not known here"),
        (call(None).encode(), "no-such", "the body is in 'no-such', says its Content-Type, which is not known here"),
        (call("base64").encode(), None, "the body is in 'base64', says its XML declaration, which is not known here"),
        (call("utf-7").encode(), None, "the body is in 'utf-7', says its XML declaration, which is not known here"),
        (call(None, "grün").encode("latin-1"), None, "the body is not an XML-RPC methodCall"),
        (call("us-ascii", "grün").encode("latin-1"), None, "the body is not an XML-RPC methodCall"),
        (call("iso-8859-1", "grün").encode("latin-1"), "utf-8", "the body is not an XML-RPC methodCall"),
        (call(None).encode("utf-16")[:-1], None, "the body is not an XML-RPC methodCall"),
        (call("gb2312").encode() + b"\xff", None, "the body is not an XML-RPC methodCall"),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, charset: str | None, message: str) -> None:
    """In a sentence that names the encoding, and who named it, where it is not known."""
    with pytest.raises(InvalidRequest, match=f"^{message}"):
        read(body, charset)


def test_a_long_body_is_read_in_slices() -> None:
    """A character may be cut in two by them."""
    text = "€ü" * 2 * BODY_SLICE
    for codec in ("utf-8", "utf-16"):
        assert read(call(None, text).encode(codec)) == text


@pytest.mark.parametrize(
    ("value", "charset"),
    [
        ("text/xml", None),
        ("text/xml; charset=utf-8", "utf-8"),
        ('TEXT/XML;CHARSET="UTF-8"', "utf-8"),
        ("text/xml ; action=x ; charset = utf8", "utf8"),
        ("text/xml; charset=", None),
        ("text/xml;", None),
    ],
)
def test_the_charset_of_a_content_type(value: str, charset: str | None) -> None:
    """However it is spelt."""
    assert charset_of(value) == charset


@given(st.text(), st.text())
def test_any_content_type_can_be_asked(value: str, charset: str) -> None:
    """And any charset is known, or refused."""
    charset_of(f"text/xml;{value}")
    with suppress(InvalidRequest):
        assert read(call(None, "a").encode(), charset)
