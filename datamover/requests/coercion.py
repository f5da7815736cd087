"""Read a client's value where text, a number, a boolean, a struct or an array is expected. Pure.

XML-RPC libraries guess types, and not every language has all of them. Perl's send the text "2026" as an int, text
beyond ASCII as base64 and a time's text as a dateTime, and Perl has no booleans. PHP cannot tell an empty struct from
an empty array. Many send nil for a key that they do not give. Each function returns the value that is meant, and None
where there is none; its caller says what was expected.
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, TypeGuard
from xmlrpc.client import Binary, DateTime

from datamover.bounds.calls import LONGEST_URL, LONGEST_VALUE
from datamover.errors import InvalidRequest
from datamover.text.quoting import cut, quoted
from datamover.web.url import shown

_DIGITS = re.compile("-?[0-9]{1,30}")
_WRITTEN = re.compile("[+-]?[0-9]+")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow."""
_YES_OR_NO: dict[int | str, bool] = {1: True, 0: False, "1": True, "0": False, "": False}
"""What languages without booleans send instead; Perl writes false as the empty text."""


class WrittenInt(int):
    """An int that was sent with other digits than ``str`` gives it, such as ``007``; as text it keeps them."""

    written: str

    @classmethod
    def read(cls, text: str) -> int:
        """Return the value of an int element; raises ValueError."""
        if text.isdecimal() and text.isascii():
            if text[0] != "0":
                return int(text)
            if len(text) > 1:
                other = cls(text)
                other.written = text
                return other
        digits = text.strip(" \t\r\n")
        if not _WRITTEN.fullmatch(digits):
            raise ValueError(f"{text[:40]!r} is no int")
        value = int(digits)
        if str(value) == digits:
            return value
        other = cls(value)
        other.written = digits
        return other


def text(value: object) -> str | None:
    """Return text, given as such, as an int (its digits), a dateTime, or base64 of UTF-8 that XML could carry."""
    if isinstance(value, str):
        return value
    match value:
        case bool():
            return None
        case WrittenInt():
            return value.written
        case int():
            return str(value)
        case DateTime():
            return str(value)
        case Binary():
            try:
                decoded = value.data.decode("utf-8")
            except UnicodeDecodeError:
                return None
            return None if NOT_XML.search(decoded) else decoded
    return None


def url(value: object) -> str | None:
    """Return a URL, given as ``text`` takes it, but not as an int."""
    if isinstance(value, str):
        return value
    return None if isinstance(value, int) else text(value)


def integer(value: object) -> int | None:
    """Return a whole number, given as int, i8 or a text of ASCII digits."""
    if type(value) is int:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else None


def whole(value: object) -> int | None:
    """Return a whole number, given as ``integer`` takes it or as a double without fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else integer(value)


def number(value: object) -> float | None:
    """Return a finite number, given as ``integer`` takes it or as a double."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    return integer(value)


def yes_or_no(value: object) -> bool | None:
    """Return a boolean, given as such, or as 1, 0 or one of the texts "1", "0" and ""."""
    if isinstance(value, bool):
        return value
    return _YES_OR_NO.get(value) if isinstance(value, int | str) else None


def struct(value: object) -> Mapping[str, Any] | None:
    """Return a struct without the keys whose value is nil; an empty array is an empty struct."""
    if type(value) is dict or isinstance(value, Mapping):
        if None not in value.values():
            return value
        return {key: each for key, each in value.items() if each is not None}
    return {} if is_array(value) and not value else None


def array(value: object) -> Sequence[Any] | None:
    """Return an array; an empty struct is an empty array."""
    if is_array(value):
        return value
    return () if isinstance(value, Mapping) and not value else None


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def known_keys(table: Mapping[str, Any], known: frozenset[str], prefix: str = "") -> None:
    """Raise InvalidRequest for a key that is not known; ``prefix`` stands before it in the message."""
    if table.keys() <= known:
        return
    for key in table:
        if key not in known:
            raise InvalidRequest(f"{prefix}{cut(str(key))}: unknown key; there are: {', '.join(sorted(known))}")


def told(value: object) -> str:
    """Return a value for a message: shortened, quoted, and without the secrets of a URL."""
    if value is None:
        return "nil"
    if isinstance(value, Mapping):
        return "a struct"
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, int | float):
        return repr(value) if abs(value) < 10**30 or value != value else "a number out of range"
    if isinstance(value, Binary) and len(value.data) > LONGEST_VALUE:
        return "base64"
    if (plain := text(value)) is not None:
        return quoted(shown(plain) if "://" in plain[:LONGEST_URL] else plain)
    if isinstance(value, Binary):
        return "base64 that is not text in UTF-8"
    return "an array" if is_array(value) else f"a {type(value).__name__}"
