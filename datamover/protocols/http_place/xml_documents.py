"""Read the XML documents of servers piece by piece. Pure.

A DTD is refused, so that no entity is defined. The depth of a document, the number of its elements, and the length of
its tags and texts have limits (``bounds.servers``).
"""

from collections.abc import Callable, Generator
from typing import Any, Protocol
from xml.parsers.expat import ExpatError, ParserCreate

from datamover.bounds.servers import DEEPEST_DOCUMENT, DOCUMENT_PIECE, LONGEST_DOCUMENT_TEXT, LONGEST_MARKUP
from datamover.protocols.http_place.refused import Unreadable

_NO_XML = "it is not XML"


class Malformed(Unreadable):
    """A document is not well-formed XML."""


class Target(Protocol):
    """What is called with the elements of a document. It may raise Unreadable."""

    def start(self, namespace: str, name: str) -> None:
        """Take the beginning of an element; the root's comes first."""

    def end(self, text: str) -> None:
        """Take the end of the element that began last and has not ended, with its text.

        Text is what stands directly before the end, without a tag between; "" for an element that ends with another.
        """


class XmlReader:
    """Reads one document."""

    def __init__(self, target: Target, most: int) -> None:
        """``most``: elements of the document, at most."""
        self._target = target
        self._left = most
        self._depth = 0
        self._text: list[str] | None = None
        self._length = 0
        self._open = 0
        """Bytes since the last tag or text that ended."""
        parser = ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.CommentHandler = parser.ProcessingInstructionHandler = self._ended
        parser.StartDoctypeDeclHandler = _refuse
        self._parser = parser

    def feed(self, data: bytes) -> Generator[None, None, None]:
        """Read the next bytes, in steps. Raises Unreadable."""
        for start in range(0, len(data), DOCUMENT_PIECE):
            piece = data[start : start + DOCUMENT_PIECE]
            self._open += len(piece)
            self._parse(piece)
            if self._open > LONGEST_MARKUP:
                raise Unreadable("a tag in it has no end")
            yield

    def finish(self) -> None:
        """End the document. Raises Unreadable if it is not complete."""
        self._parse(b"", final=True)

    def _parse(self, data: bytes, *, final: bool = False) -> None:
        try:
            self._parser.Parse(data, final)
        except (ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding.
            raise Malformed(_NO_XML) from error

    # For the parser -------------------------------------------------------------------------------------------

    def _start(self, tag: str, _: Any) -> None:
        self._left -= 1
        self._depth += 1
        if self._depth > DEEPEST_DOCUMENT or self._left < 0:
            raise Unreadable("it has too many elements, or they are nested too deeply")
        self._text, self._length, self._open = [], 0, 0
        namespace, _, name = tag.rpartition("}")
        self._target.start(namespace, name)

    def _end(self, _: str) -> None:
        self._depth -= 1
        text = "".join(self._text) if self._text else ""
        self._text, self._open = None, 0
        self._target.end(text)

    def _data(self, text: str) -> None:
        self._open = 0
        if self._text is not None:
            self._length += len(text)
            if self._length > LONGEST_DOCUMENT_TEXT:
                raise Unreadable("a text in it is too long")
            self._text.append(text)

    def _ended(self, *_: Any) -> None:
        self._open = 0


def read_document(
    body: bytes, target: Target, most: int, clean: Callable[[bytes], bytes] | None = None
) -> Generator[None, None, None]:
    """Read a whole document, in steps. Raises Unreadable.

    ``clean`` changes its bytes before they are read; it gets pieces that end with a tag, where there are tags.
    """
    reader = XmlReader(target, most)
    start = 0
    while start < len(body):
        end = start + DOCUMENT_PIECE
        if clean is not None and end < len(body):
            end = (body.rfind(b">", start, end) + 1) or end
        piece = body[start:end]
        yield from reader.feed(piece if clean is None else clean(piece))
        start = end
    reader.finish()


def _refuse(*_: Any) -> None:
    raise Unreadable("it has a DTD")
