"""The values of a methodCall, made while its body is parsed.

A parser that calls a function for each element costs more than what it calls. So expat only says whether the body is
well-formed. Where it is, and has no comments, CDATA sections and processing instructions, each ``<`` begins a tag: the
body is split there, and most pieces are known as a whole. A struct of plain values, of which requests have the most, is
read by regular expressions, in half of the time.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from xmlrpc.client import Binary, DateTime, escape

from datamover.bounds.calls import (
    BODY_SLICE,
    DEEPEST_NESTING,
    FREE_NESTING,
    LONGEST_KEY,
    LONGEST_VALUE,
    MOST_MEMBERS,
    MOST_NESTING,
    MOST_ODD_MARKUP,
    MOST_SOURCES,
    ODD_TAG,
)
from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.requests.coercion import WrittenInt

_BOOLEANS = {"1": True, "0": False, "true": True, "false": False}
"""XML-RPC knows 1 and 0 only, but some libraries write the words."""


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text[:40]!r} is no boolean")
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    "string": str,
    **dict.fromkeys(("int", "i1", "i2", "i4", "i8", "biginteger"), WrittenInt.read),
    "boolean": _boolean,
    **dict.fromkeys(("double", "float"), float),
    "base64": lambda text: Binary(a2b_base64(text)),
    "dateTime.iso8601": lambda text: DateTime(text.strip()),
    "nil": lambda _: None,
    "bigdecimal": Decimal,
}
_SCALARS = _READERS | {f"ex:{name}": read for name, read in _READERS.items()}
"""What makes a value of an element's text; ``ex`` is how libraries write the prefix of types that are not XML-RPC's."""
_MADE_OF_NOTHING: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("value", "name"), str),
    "struct": lambda _: {},
    "array": lambda _: [],
}
_EMPTY = {f"{name}{end}": make for name, make in (_SCALARS | _MADE_OF_NOTHING).items() for end in ("/", " /")}
"""What makes a value of an element without text and end."""

_NOTHING, _ENCLOSING, _VALUE, _VALUE_ENDS, _STRUCT, _ARRAY, _ENDS, _SCALAR, _ALONE = range(9)
_AROUND = ("methodCall", "params", "param", "member", "data")
_TAGS: Mapping[str, int] = {
    **{f"{name}{ends}": _ENCLOSING for name in _AROUND for ends in ("", "/", " /")},
    **{f"/{name}": _NOTHING for name in _AROUND},
    "value": _VALUE,
    "/value": _VALUE_ENDS,
    "struct": _STRUCT,
    "array": _ARRAY,
    "/struct": _ENDS,
    "/array": _ENDS,
    **dict.fromkeys(("name", "methodName", *_SCALARS), _SCALAR),
    **dict.fromkeys(_EMPTY, _ALONE),
}
"""What a tag is, by how it is written."""
_PIECES: Mapping[str, int] = {
    f"{written}>{space}": kind
    for written, kind in _TAGS.items()
    if kind < _SCALAR
    for space in ("", "\n")
    if kind != _VALUE or not space
}
"""The same of a tag that no text follows; a line's end may be a value."""
_ODD_TAG = re.compile(
    r"""(/?)(?:[^\s:/>]++:)*+([^\s:/>]++)(?:[^"'/>]++|"[^"]*+"|'[^']*+'|/(?!>))*+(/?)>(.*)""", re.DOTALL
)
"""A tag as hardly a client writes it: with a prefix, attributes or white space; and what follows it."""
_ASIDE = re.compile(r"<!\[CDATA\[(.*?)\]\]>|<!--.*?-->|<\?.*?\?>", re.DOTALL)
_ASIDE_BEGINS = re.compile(r"<(?:[!?]|\Z)")
_SPACE = r"[ \t\r\n]*+"
_PLAIN = re.compile(
    rf"""<struct>{_SPACE}((?:<member>{_SPACE}<name>[^<]{{1,{LONGEST_KEY}}}+</name>{_SPACE}
        <value(?:{_SPACE}/>|>(?:{_SPACE}<(?:{"|".join(_SCALARS)})(?:{_SPACE}/>|>[^<]*+</[^>]++>){_SPACE}|[^<]*+)</value>)
        {_SPACE}</member>{_SPACE}){{1,{MOST_MEMBERS}}}+)</struct>
        {_SPACE}(?:</value>{_SPACE}(?:<value>{_SPACE}(?=<struct>))?+)?+""",
    re.VERBOSE,
)
"""A struct without arrays, structs and what is rare in it: its members. What means nothing after it belongs to it."""
_MEMBER = re.compile(
    rf"<name>([^<]++)</name>{_SPACE}<value(?:{_SPACE}/>|>(?:{_SPACE}<([a-zA-Z0-9.:]++)(?:{_SPACE}/>{_SPACE}|>))?+([^<]*+))"
)
"""The name, type and text of each of them; a type that is not named is a string."""
_TEXTS = frozenset(("", "string"))
_NAMED = ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")
_NUMBERS = re.compile("&#((?:[^;]*+;&#)*+[^;]*+);")
_REMEMBERED = 4096


class _Numbered(dict[str, str]):
    """The text that runs of references by number stand for, as it is written without."""

    def __missing__(self, numbers: str) -> str:
        first, *more = numbers.split(";&#")
        if more:
            text = "".join(map(self.__getitem__, (first, *more)))
        else:
            char = chr(int(first[1:], 16) if first[0] == "x" else int(first))
            text = next((name for name, meant in _NAMED if meant == char), char)
        if len(self) < _REMEMBERED and len(numbers) <= LONGEST_KEY:
            self[numbers] = text
        return text


_NUMBERED = _Numbered()


def _without_numbers(text: str) -> str:
    """Return a piece of the document without references by number, which some clients write for all but ASCII."""
    parts = _NUMBERS.split(text)
    parts[1::2] = map(_NUMBERED.__getitem__, parts[1::2])
    return "".join(parts)


def _meant(chars: str) -> str:
    """Return text with its references by name read; without a DTD there are no others than these."""
    if "&" in chars:
        for name, char in _NAMED:
            chars = chars.replace(name, char)
    return chars


def _as_text(aside: re.Match[str]) -> str:
    """Return a CDATA section as other text is written; comments and processing instructions are none."""
    return escape(aside[1] or "")


_TOO_DEEP = f"the body nests arrays and structs more than {DEEPEST_NESTING} deep"
_TOO_MANY_MEMBERS = f"the body has a struct of more than {MOST_MEMBERS} members"


def _name(text: str) -> str:
    if len(text) > LONGEST_KEY:
        raise InvalidRequest(f"the body has a name of more than {LONGEST_KEY} characters")
    return text


class Unmarshaller:
    """Makes values of a document that comes in pieces, each of which a parser has found well-formed.

    Lines end as XML reads them, with a line feed.
    """

    def __init__(self) -> None:
        self.method: str | None = None
        """The method's name, None before it is known."""
        self.parameters: list[Any] = []
        self._inside: Any = self.parameters
        """The innermost array or struct that has not ended."""
        self._key: str | None = None
        """The name of its member that has no value yet."""
        self._outside: list[tuple[Any, str | None]] = []
        """The same of those that it is in, from the outermost."""
        self._bare: str | None = None
        """The text of a value that has begun and whose type has not been named."""
        self._checked: dict[int, tuple[Any, int]] = {}
        """By level, a long array and how many of its values ``check`` has seen."""
        self._left = ""
        """What has not ended yet."""
        self._odd = 0
        """What the last piece has of what ``MOST_ODD_MARKUP`` bounds."""
        self._nesting = 0
        """Arrays and structs, plain ones excepted."""
        self._come = 0
        """Characters."""

    def read(self, piece: str) -> None:
        """Make the values of what has ended with the next piece of the document.

        Raises InvalidRequest, and errors of any kind for what is no value.
        """
        self._odd = 0
        self._come += len(piece)
        whole, begun = self._left + piece, ""
        if "<!" in whole or "<?" in whole or whole.endswith("<"):
            whole, self._odd = _ASIDE.subn(_as_text, whole)
            if open_aside := _ASIDE_BEGINS.search(whole):
                whole, begun = whole[: open_aside.start()], whole[open_aside.start() :]
        end = max(whole.rfind("<"), 0)  # Not within text.
        whole, self._left = whole[:end], whole[end:] + begun
        if "&#" in whole:
            whole = _without_numbers(whole)
        part, *parts = _PLAIN.split(whole)
        each = iter(parts)
        for members, following in zip(each, each, strict=True):
            if part:
                self._read(part)
            self._add_plain(members)
            part = following
        self._read(part, last=True)
        if self._odd > MOST_ODD_MARKUP:
            raise InvalidRequest("the body has too many comments, attributes or unknown elements: leave them out")
        if self._nesting > FREE_NESTING + MOST_NESTING * self._come // BODY_SLICE:
            which = f"{self._nesting:,} arrays and structs in each other, too many for its length"
            raise RequestTooLarge(f"the body has {which}: send several requests")

    def _add_plain(self, members: str) -> None:
        """Make a struct of members as ``_PLAIN`` has them."""
        if len(self._outside) >= DEEPEST_NESTING:
            raise InvalidRequest(_TOO_DEEP)
        found = _MEMBER.findall(members)
        if "&" in members:
            found = [(_meant(name), tag, _meant(text)) for name, tag, text in found]
        struct = {name: text if tag in _TEXTS else _SCALARS[tag](text) for name, tag, text in found}
        if self._key is None:
            self._inside.append(struct)
        else:
            self._inside[self._key] = struct
            self._key = None
        self._bare = None

    def _read(self, part: str, *, last: bool = False) -> None:
        """Make the values of a part without plain structs, and count its odd tags, arrays and structs.

        What begins at the end of the ``last`` part may end in the next piece.
        """
        inside, key, outside, bare, odd, nesting = self._inside, self._key, self._outside, self._bare, 0, 0
        known, meaning, pieces, referring = _PIECES.get, _TAGS.get, iter(part.split("<")), "&" in part
        next(pieces)
        value: Any
        for each in pieces:
            kind = known(each)
            if kind == _NOTHING:
                continue
            chars = ""
            if kind is None:
                tag, _, chars = each.partition(">")
                kind = meaning(tag)
                if kind is None:
                    odd += 1
                    tag, chars = _odd(each)
                    kind = meaning(tag, _NOTHING if tag[0] == "/" else _ENCLOSING)
                if kind == _NOTHING:
                    continue
            if kind == _VALUE:
                bare = chars
                continue
            if kind == _ENCLOSING:
                if bare is not None:
                    raise ValueError(f"unknown tag {each[:40]!r}")
                continue
            if kind == _SCALAR:
                ending = next(pieces, None)
                if ending is None and last:
                    self._left = f"<{each}{self._left}"
                    break
                if ending is None or ending[0] != "/":
                    raise ValueError(f"{tag[:40]!r} has elements in it")
                if referring:
                    chars = _meant(chars)
                if tag == "name":
                    if key is not None:
                        raise ValueError(f"{key[:40]!r} has no value")
                    key = chars if len(chars) <= LONGEST_KEY else _name(chars)
                    continue
                if tag == "methodName":
                    self.method = _name(chars)
                    continue
                value = chars if tag == "string" else _SCALARS[tag](chars)
            elif kind == _VALUE_ENDS:
                if bare is None:
                    continue
                value = _meant(bare)
            elif kind == _ENDS:
                if key is not None:
                    raise ValueError(f"{key[:40]!r} has no value")
                value = inside
                if len(value) > MOST_MEMBERS and type(value) is dict:
                    raise InvalidRequest(_TOO_MANY_MEMBERS)
                inside, key = outside.pop()
            elif kind == _ALONE:
                value = _EMPTY[tag]("")
                if tag.startswith("name"):
                    key = value
                    continue
            else:
                if len(outside) >= DEEPEST_NESTING:
                    raise InvalidRequest(_TOO_DEEP)
                nesting += 1
                outside.append((inside, key))
                inside, key, bare = [] if kind == _ARRAY else {}, None, None
                continue
            bare = None
            if key is None:
                inside.append(value)
            else:
                inside[key] = value
                key = None
        self._inside, self._key, self._bare = inside, key, bare
        self._odd += ODD_TAG * odd
        self._nesting += nesting

    def check(self, longest_array: int) -> None:
        """Raise InvalidRequest or RequestTooLarge for what is too large already, though it has not ended yet."""
        if len(self._left) > LONGEST_VALUE:
            raise InvalidRequest(f"the body has a text of more than {LONGEST_VALUE} characters")
        for level, values in enumerate((*(each for each, _ in self._outside), self._inside)):
            if isinstance(values, dict):
                if len(values) > MOST_MEMBERS:
                    raise InvalidRequest(_TOO_MANY_MEMBERS)
            elif len(values) > longest_array:
                raise RequestTooLarge(f"the body has an array of more than {longest_array}: send several requests")
            elif len(values) > MOST_SOURCES:
                before, seen = self._checked.get(level, (None, 0))
                new = values[seen if before is values else 0 :]
                if not all(type(each) is dict and each for each in new):
                    which = f"more than {MOST_SOURCES} values: only files, requests and calls may be more"
                    raise RequestTooLarge(f"the body has an array of {which}")
                self._checked[level] = values, len(values)


def _odd(piece: str) -> tuple[str, str]:
    """Return the tag that begins a piece as clients write it, and the text after it."""
    match = _ODD_TAG.match(piece)
    if match is None:
        raise ValueError("a tag without a name")
    closing, name, empty, chars = match.groups()
    return f"{closing}{name}{empty}", chars
