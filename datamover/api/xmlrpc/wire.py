"""XML-RPC on the wire: a body read in slices, and answers that every client can read.

Reading is strict about XML (no DTD, no entities, everything bounded) and lenient about values (i8, nil) and encodings.
What goes out is plain XML-RPC: no nil, no i8, and only characters that XML can carry.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO
from xmlrpc.client import Fault, dumps, escape

from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from datamover.api.http.encodings import recoder
from datamover.api.xmlrpc.unmarshaller import Unmarshaller
from datamover.errors import InvalidRequest, RequestError, RequestTooLarge
from datamover.requests.coercion import NOT_XML
from datamover.text.bounds import MOST_ELEMENTS

READ = 64 * 1024
"""Bytes parsed at a time: a few milliseconds."""
LONGEST_TAG = 2 * READ
"""Bytes of a tag, or a comment: the parser begins anew with it at every slice."""

_INT = 2**31
_DECLARATION = "<?xml version='1.0'?>\n"
_BEGINS = f"{_DECLARATION}<methodResponse>\n<params>\n<param>\n".encode()
_ENDS = b"</param>\n</params>\n</methodResponse>\n"
ARRAY, ARRAY_ENDS = b"<value><array><data>\n", b"</data></array></value>\n"
_STRUCT, _MEMBER_ENDS, _STRUCT_ENDS = b"<value><struct>\n", b"</member>\n", b"</struct></value>\n"
_BEFORE, _AFTER = "<params>\n<param>\n", "</param>\n</params>\n"
"""What Python puts around a single value."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a body may hold, looked at after each whole slice: what is shorter is no burden."""

    elements: Callable[[str | None], int] = lambda _: MOST_ELEMENTS
    """Told the method's name, or None while that is not known."""
    array: int = MOST_ELEMENTS
    """Values of one array."""


def reading(
    body: BinaryIO, most: int = MOST_ELEMENTS, charset: str | None = None, bounds: Bounds = Bounds()
) -> Generator[None, None, tuple[str, tuple[Any, ...]]]:
    """Parse a call of at most so many elements, yielding after each slice; return its method's name and parameters.

    ``charset`` is what Content-Type says. Raises InvalidRequest and RequestTooLarge.
    """
    target, fed, elements = Unmarshaller(), 0, 0
    parser: Any = DefusedExpatParser(target, forbid_dtd=True)
    parser._parser.buffer_text = True
    # After text, be it empty, expat takes everything for UTF-8, whatever is declared.
    parser.feed("")
    try:
        data = body.read(READ)
        recode = recoder(data, charset)
        while data:
            text = recode(data) if recode else data
            elements += _beginning(text)
            _check_elements(elements, most)
            fed += _feed(parser, text)
            _check_tag(fed - parser._parser.CurrentByteIndex)
            if len(data) == READ:
                _check_elements(elements, bounds.elements(target.getmethodname()))
                target.check(bounds.array)
            yield
            data = body.read(READ)
        if recode:
            _feed(parser, recode(b""))
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


def _feed(parser: Any, data: bytes) -> int:
    parser.feed(data)
    return len(data)


def _beginning(text: bytes) -> int:
    """Return how many elements begin in a slice: counted here, since the parser tells of them one by one."""
    return text.count(b"<") - text.count(b"</")


def _check_elements(elements: int, most: int) -> None:
    if elements > most:
        raise RequestTooLarge(f"the body has more than {most} elements: send several requests")


def _check_tag(begun: int) -> None:
    if begun > LONGEST_TAG:
        raise InvalidRequest(f"the body has a tag or a comment of more than {LONGEST_TAG} bytes")


def _reason(error: Exception) -> str:
    text = str(error)
    return text[:200] if text else "a value in it is incomplete"


_TOO_LARGE = (
    "the answer is larger than it may be ([limits] answer_size): ask for less at a time, with a smaller 'limit', a "
    "page after the other, or fewer calls in a multicall"
)


class Page(list[Any]):
    """An array that may end early where its answer is full: the next page begins with what is left out."""


@dataclass(frozen=True, slots=True)
class Written:
    """A value that is written already."""

    pieces: Sequence[bytes]


class Answer:
    """The body of an answer, counted while it is written."""

    def __init__(self, most: int, *, pages: bool = True) -> None:
        """``most``: bytes; ``pages``: whether one that does not fit may end early."""
        self.most = most
        self._pages = pages
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, *pieces: bytes) -> None:
        """Write pieces; raises RequestTooLarge where the answer would be too large with them."""
        size = self.size + sum(map(len, pieces))
        if size > self.most:
            raise RequestTooLarge(_TOO_LARGE)
        self.pieces += pieces
        self.size = size

    def writing(self, value: Any) -> Generator[None, None, None]:
        """Write a value, yielding after each element of its arrays; raises RequestTooLarge."""
        if isinstance(value, list):
            yield from self._array(value)
        elif isinstance(value, Written):
            self.add(*value.pieces)
        elif _is_long(value):
            self.add(_STRUCT)
            for key, each in value.items():
                if each is not None:
                    self.add(_returns(_name(key)).encode())
                    yield from self.writing(each)
                    self.add(_MEMBER_ENDS)
            self.add(_STRUCT_ENDS)
        else:
            self.add(_element(value))

    def _array(self, values: list[Any]) -> Generator[None, None, None]:
        self.add(ARRAY)
        self.most -= len(ARRAY_ENDS)
        for count, each in enumerate(values):
            try:
                self.add(_element(each))
            except RequestTooLarge:
                if not (count and self._pages and isinstance(values, Page)):
                    raise
                break
            yield
        self.most += len(ARRAY_ENDS)
        self.add(ARRAY_ENDS)

    def cut(self, size: int, pieces: int) -> None:
        """Take back what was written after there were so many bytes, in so many pieces."""
        self.size = size
        del self.pieces[pieces:]


def _is_long(value: object) -> bool:
    """Tell whether a value is written piece by piece: an array, or a struct that has one."""
    if isinstance(value, dict):
        return list in map(type, value.values())
    return isinstance(value, list | Written)


def answering(value: object, most: int = 32 * 2**20) -> Generator[None, None, bytes]:
    """Return the body of an answer, a value or a Fault, yielding after each element of an array.

    One of more than ``most`` bytes is the Fault that says so.
    """
    if isinstance(value, Fault):
        return finished(value)
    if not _is_long(value):
        body = b"".join((_BEGINS, _element(value), _ENDS))
        return body if len(body) <= most else finished(Fault(RequestTooLarge.fault, _TOO_LARGE))
    answer = Answer(most - len(_ENDS))
    try:
        answer.add(_BEGINS)
        yield from answer.writing(value)
    except RequestTooLarge as error:
        return finished(Fault(error.fault, error.message))
    return b"".join([*answer.pieces, _ENDS])


def finished(fault: Fault) -> bytes:
    """Return the body of a Fault."""
    text = dumps(Fault(fault.faultCode, legible(fault.faultString)), methodresponse=True)
    return _returns(text).encode()


def _element(value: Any) -> bytes:
    """Return the element of a value."""
    parts: list[str] = []
    _write(value, parts.append)
    return _returns("".join(parts)).encode()


def _name(key: object) -> str:
    return f"<member>\n<name>{escape(legible(str(key)))}</name>\n"


def _write(value: Any, write: Callable[[str], object]) -> None:
    """Write a value as the text of its element; what is nil is left out."""
    if isinstance(value, str):
        write(f"<value><string>{escape(legible(value))}</string></value>\n")
    elif value is True or value is False:
        write(f"<value><boolean>{value:d}</boolean></value>\n")
    elif isinstance(value, Mapping):
        write("<value><struct>\n")
        for key, each in value.items():
            if each is not None:
                write(_name(key))
                _write(each, write)
                write("</member>\n")
        write("</struct></value>\n")
    elif isinstance(value, list | tuple):
        write("<value><array><data>\n")
        for each in value:
            if each is not None:
                _write(each, write)
        write("</data></array></value>\n")
    elif isinstance(value, int) and -_INT <= value < _INT:
        write(f"<value><int>{value}</int></value>\n")
    else:
        whole: str = dumps((outgoing(value),))
        write(whole[len(_BEFORE) : -len(_AFTER)])


def _returns(text: str) -> str:
    """Spell carriage returns out: a parser would read a bare one as a new line."""
    return text.replace("\r", "&#13;")


def outgoing(value: Any) -> Any:
    """Return a single value as it may go out: a time as text, a long integer as a double.

    Fractions end at the third digit: of bytes a second and of seconds no more means anything.
    """
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, int):
        return float(value)
    if isinstance(value, float):
        return round(value, 3)
    return value


def legible(text: str) -> str:
    """Return text with the replacement character for whatever XML cannot carry."""
    return NOT_XML.sub("\ufffd", text)


def moment(at: datetime) -> str:
    """Return a time as text: ISO 8601, UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
