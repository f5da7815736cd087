"""XML-RPC on the wire: a body read in slices, and answers that every client can read.

Reading is strict about XML (no DTD, no entities, everything bounded) and lenient about values (i8, nil). What goes out
is plain XML-RPC: no nil, no i8, and only characters that XML can carry.
"""

import re
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from xmlrpc.client import Fault, Unmarshaller, dumps

from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from datamover.errors import InvalidRequest, RequestError, RequestTooLarge

READ = 64 * 1024
"""Bytes parsed at a time: a few milliseconds."""
DEEPEST = 32
"""Arrays and structs within each other."""
MOST_ELEMENTS = 4_000_000
"""In one call: each of a hundred thousand files has some thirty."""
LONGEST_NAME = 256
"""Characters of a method's name, or of a struct's key."""
LONGEST_TAG = 2 * READ
"""Bytes of a tag, or a comment: the parser begins anew with it at every slice."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT = 2**31
_DECLARATION = "<?xml version='1.0'?>\n"
_BEFORE, _AFTER = "<params>\n<param>\n", "</param>\n</params>\n"
"""What Python puts around a single value."""


class _Bounded(Unmarshaller):
    """An unmarshaller that refuses what is nested, or named, or numerous beyond reason."""

    _depth = 0
    _elements = 0

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > self._most:
            raise RequestTooLarge(f"the body has more than {self._most} elements: send several requests")
        if _plain(tag) in ("array", "struct"):
            self._depth += 1
            if self._depth > DEEPEST:
                raise InvalidRequest(f"the body nests arrays and structs more than {DEEPEST} deep")
        super().start(tag, attrs)

    def end(self, tag: str) -> None:
        plain = _plain(tag)
        if plain in ("array", "struct"):
            self._depth -= 1
        elif plain in ("name", "methodName") and sum(map(len, self._data)) > LONGEST_NAME:
            raise InvalidRequest(f"the body has a name of more than {LONGEST_NAME} characters")
        super().end(tag)


def _plain(tag: str) -> str:
    """Return a tag as the unmarshaller takes it: without what stands before a colon."""
    return tag.rpartition(":")[2] if ":" in tag else tag


def reading(body: BinaryIO, most: int = MOST_ELEMENTS) -> Generator[None, None, tuple[str, tuple[Any, ...]]]:
    """Parse a call, yielding after each slice; return its method's name and parameters.

    Raises InvalidRequest and RequestTooLarge.
    """
    target, fed = _Bounded(most), 0
    parser: Any = DefusedExpatParser(target, forbid_dtd=True)
    try:
        while data := body.read(READ):
            parser.feed(data)
            fed += len(data)
            _check_tag(fed - parser._parser.CurrentByteIndex)
            yield
        parser.close()
        parameters = target.close()
        method = target.getmethodname()
    except RequestError:
        raise
    except DefusedXmlException:
        raise InvalidRequest("the body has a document type or entities: expected a plain XML-RPC methodCall") from None
    except Exception as error:
        # Expat and the unmarshaller raise whatever the malformed document makes them run into.
        raise InvalidRequest(f"the body is not an XML-RPC methodCall: {_reason(error)}") from None
    if not isinstance(method, str):
        raise InvalidRequest("the body is not an XML-RPC methodCall: it names no method")
    return method, tuple(parameters)


def _check_tag(begun: int) -> None:
    if begun > LONGEST_TAG:
        raise InvalidRequest(f"the body has a tag or a comment of more than {LONGEST_TAG} bytes")


def _reason(error: Exception) -> str:
    text = str(error)
    return text[:200] if text else "a value in it is incomplete"


def answering(value: object) -> Generator[None, None, bytes]:
    """Return the body of an answer, a value or a Fault, yielding after each element of an array."""
    if isinstance(value, Fault):
        return finished(value)
    if isinstance(value, list):
        parts = ["<value><array><data>\n"]
        for each in value:
            parts.append(_value(each))
            yield
        parts.append("</data></array></value>\n")
        text = "".join(parts)
    else:
        text = _value(value)
    return f"{_DECLARATION}<methodResponse>\n<params>\n<param>\n{text}</param>\n</params>\n</methodResponse>\n".encode()


def finished(fault: Fault) -> bytes:
    """Return the body of a Fault."""
    text = dumps(Fault(fault.faultCode, legible(fault.faultString)), methodresponse=True)
    return _returns(text).encode()


def _value(value: object) -> str:
    """Return a value as the text of its element."""
    whole: str = dumps((outgoing(value),))
    return _returns(whole[len(_BEFORE) : -len(_AFTER)])


def _returns(text: str) -> str:
    """Spell carriage returns out: a parser would read a bare one as a new line."""
    return text.replace("\r", "&#13;")


def outgoing(value: Any) -> Any:
    """Return a value as it may go out: without nil, its times as text, its long integers as doubles.

    Fractions end at the third digit: of bytes a second and of seconds no more means anything.
    """
    if isinstance(value, Mapping):
        return {legible(str(key)): outgoing(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [outgoing(each) for each in value if each is not None]
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT <= value < _INT:
        return float(value)
    if isinstance(value, float):
        return round(value, 3)
    return value


def legible(text: str) -> str:
    """Return text with the replacement character for whatever XML cannot carry."""
    return _NOT_XML.sub("\ufffd", text)


def moment(at: datetime) -> str:
    """Return a time as text: ISO 8601, UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
