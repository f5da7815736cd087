"""Parse calls and write answers, both in slices.

Parsing is strict about XML (no DTD, no entities, everything bounded) and lenient about values (i8, nil) and encodings.
Answers are plain XML-RPC that every client can read: no nil, no i8, and only characters that XML can hold.
"""

from codecs import getincrementaldecoder
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from io import IncrementalNewlineDecoder
from typing import Any, BinaryIO
from xml.parsers.expat import ParserCreate
from xmlrpc.client import Fault, dumps, escape

from datamover.api.http.encodings import recoder
from datamover.api.xmlrpc.unmarshaller import Unmarshaller
from datamover.bounds.calls import BODY_SLICE, DENSEST_ELEMENTS, LONGEST_TAG, MOST_ELEMENTS
from datamover.errors import InvalidRequest, RequestError, RequestTooLarge
from datamover.requests.coercion import NOT_XML

_INT = 2**31
_DECLARATION = "<?xml version='1.0'?>\n"
_BEGINS = f"{_DECLARATION}<methodResponse>\n<params>\n<param>\n".encode()
_ENDS = b"</param>\n</params>\n</methodResponse>\n"
ARRAY, ARRAY_ENDS = b"<value><array><data>\n", b"</data></array></value>\n"
_STRUCT, _MEMBER_ENDS, _STRUCT_ENDS = b"<value><struct>\n", b"</member>\n", b"</struct></value>\n"
_BEFORE, _AFTER = "<params>\n<param>\n", "</param>\n</params>\n"
"""What xmlrpc.client puts around a single value."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a body, checked after each full slice; a shorter body needs no check."""

    elements: Callable[[str | None], int] = lambda _: MOST_ELEMENTS
    """Returns the largest number of elements for a method's name, which is None while it is not known."""
    array: int = MOST_ELEMENTS
    """The largest number of values in one array."""


def parse_call(
    body: BinaryIO, most: int = MOST_ELEMENTS, charset: str | None = None, bounds: Bounds = Bounds()
) -> Generator[None, None, tuple[str, tuple[Any, ...]]]:
    """Parse a call of at most ``most`` elements, yielding after each slice; return its method's name and parameters.

    ``charset`` is what Content-Type says. Raises InvalidRequest and RequestTooLarge.
    """
    target, fed, elements = Unmarshaller(), 0, 0
    parser = ParserCreate("utf-8")  # Whatever the document declares.
    parser.StartDoctypeDeclHandler = _refuse_types
    decode = IncrementalNewlineDecoder(getincrementaldecoder("utf-8")(), translate=True).decode
    try:
        data = body.read(BODY_SLICE)
        recode = recoder(data, charset)
        while data:
            text = recode(data) if recode else data
            if elements or len(text) > min(most, BODY_SLICE // 2):  # A shorter body cannot have that many.
                begun = _beginning(text)
                _check_elements(begun, DENSEST_ELEMENTS, f" in {BODY_SLICE} bytes")
                elements += begun
                _check_elements(elements, most)
            parser.Parse(text)
            fed += len(text)
            _check_tag(fed - parser.CurrentByteIndex)
            target.read(decode(text))
            if len(data) == BODY_SLICE:
                _check_elements(elements, bounds.elements(target.method))
                target.check(bounds.array)
            yield
            data = body.read(BODY_SLICE)
        if recode and (text := recode(b"")):
            parser.Parse(text)
            target.read(decode(text))
        parser.Parse(b"", True)
        decode(b"", final=True)
    except RequestError:
        raise
    except Exception as error:
        # A malformed document makes expat and the unmarshaller raise errors of any kind.
        raise InvalidRequest(f"the body is not an XML-RPC methodCall: {_reason(error)}") from None
    if target.method is None:
        raise InvalidRequest("the body is not an XML-RPC methodCall: it names no method")
    return target.method, tuple(target.parameters)


def _refuse_types(*_: object) -> None:
    """Refuse a document type: without one there are no entities but those of XML itself."""
    raise InvalidRequest("the body has a document type or entities: expected a plain XML-RPC methodCall")


def _beginning(text: bytes) -> int:
    """Return how many elements begin in a slice."""
    return text.count(b"<") - text.count(b"</")


def _check_elements(elements: int, most: int, where: str = "") -> None:
    if elements > most:
        raise RequestTooLarge(f"the body has more than {most} elements{where}: send several requests")


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
_CROWDED = (
    "too many large answers to this client are being made, or wait until it reads them: read them, and ask again in a "
    "while, or for less at a time, with a smaller 'limit'"
)


class PagedArray(list[Any]):
    """An array that may end early when the answer is full; the next page begins with the rest."""


@dataclass(frozen=True, slots=True)
class Serialized:
    """A value whose XML has been written already."""

    pieces: Sequence[bytes]


Reach = Callable[[int], bool]
"""Takes room for an answer of so many bytes; returns False if there is too little."""


def _anywhere(size: int) -> bool:
    return True


class AnswerBody:
    """The body of an answer, which is written in pieces up to a size."""

    def __init__(self, most: int, *, pages: bool = True, reach: Reach = _anywhere) -> None:
        """``most`` is the largest size in bytes; ``pages`` is whether a PagedArray may end early."""
        self.most = most
        self._reach = reach
        self._pages = pages
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, *pieces: bytes) -> None:
        """Append pieces; raises RequestTooLarge if the answer would become too large."""
        size = self.size + sum(map(len, pieces))
        if size > self.most:
            raise RequestTooLarge(_TOO_LARGE)
        if not self._reach(size):
            raise RequestTooLarge(_CROWDED)
        self.pieces += pieces
        self.size = size

    def writing(self, value: Any) -> Generator[None, None, None]:
        """Write a value, yielding after each element of its arrays; raises RequestTooLarge."""
        if isinstance(value, list):
            yield from self._array(value)
        elif isinstance(value, Serialized):
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
                if not (count and self._pages and isinstance(values, PagedArray)):
                    raise
                break
            yield
        self.most += len(ARRAY_ENDS)
        self.add(ARRAY_ENDS)

    def cut(self, size: int, pieces: int) -> None:
        """Remove everything after the first ``pieces`` pieces, which have ``size`` bytes."""
        self.size = size
        del self.pieces[pieces:]


def _is_long(value: object) -> bool:
    """Return whether a value is written piece by piece: an array, or a struct that holds one."""
    if isinstance(value, dict):
        return list in map(type, value.values())
    return isinstance(value, list | Serialized)


def write_answer(value: object, most: int = 32 * 2**20, reach: Reach = _anywhere) -> Generator[None, None, bytes]:
    """Return the body of an answer, a value or a Fault, yielding after each element of an array.

    An answer of more than ``most`` bytes, or for which there is no room, becomes a Fault.
    """
    if isinstance(value, Fault):
        return write_fault(value)
    if not _is_long(value):
        body = b"".join((_BEGINS, _element(value), _ENDS))
        return body if len(body) <= most else write_fault(Fault(RequestTooLarge.fault, _TOO_LARGE))
    answer = AnswerBody(most - len(_ENDS), reach=reach)
    try:
        answer.add(_BEGINS)
        yield from answer.writing(value)
    except RequestTooLarge as error:
        return write_fault(Fault(error.fault, error.message))
    return b"".join([*answer.pieces, _ENDS])


def write_fault(fault: Fault) -> bytes:
    """Return the body of a Fault."""
    text = dumps(Fault(fault.faultCode, legible(fault.faultString)), methodresponse=True)
    return _returns(text).encode()


def _element(value: Any) -> bytes:
    """Return the element of a value."""
    parts: list[str] = []
    _write(value, parts.append)
    return _returns("".join(parts)).encode()


@lru_cache(maxsize=512)
def _name(key: object) -> str:
    """Return the beginning of a member. The names of an answer's members are few, and the same in each."""
    return f"<member>\n<name>{escape(legible(str(key)))}</name>\n"


def _write(value: Any, write: Callable[[str], object]) -> None:
    """Write the XML of a value; None is left out of arrays and structs."""
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
    """Escape carriage returns, which an XML parser would read as line feeds."""
    return text.replace("\r", "&#13;")


def outgoing(value: Any) -> Any:
    """Return a scalar in a type that XML-RPC has: a time as text, a long integer as a double.

    Doubles are rounded to three digits, which is enough for bytes a second and for seconds.
    """
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, int):
        return float(value)
    if isinstance(value, float):
        return round(value, 3)
    return value


def legible(text: str) -> str:
    """Return text with the replacement character for every character that XML cannot hold."""
    return NOT_XML.sub("\ufffd", text)


def moment(at: datetime) -> str:
    """Return a time as text: ISO 8601, UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
