"""The values of a methodCall, made while its body is parsed.

A parser that calls a function for each element costs more than what it calls. So expat only says whether the body is
well-formed, and one regular expression splits it: it takes a whole value where it is plain, and what only encloses
others together with what it follows. A struct of plain values, of which requests have the most, is taken whole, and a
second expression splits it. xmlrpc.client reads what is rare.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any
from xmlrpc import client

from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.requests.coercion import WrittenInt
from datamover.text.bounds import DEEPEST, LONGEST_NAME, LONGEST_VALUE, MOST_MEMBERS, MOST_ODD, MOST_SOURCES

_DISPATCH: dict[str, Any] = client.Unmarshaller.dispatch
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "nil": lambda _: None,
    **dict.fromkeys(("int", "i1", "i2", "i4", "i8", "biginteger"), WrittenInt.read),
    "boolean": lambda text: _boolean(text),
    "double": float,
    "base64": lambda text: client.Binary(a2b_base64(text)),
    "dateTime.iso8601": lambda text: client.DateTime(text.strip()),
}
_TEXTS = frozenset(("", "string"))
_BOOLEANS = {"1": True, "0": False, "true": True, "false": False}
"""XML-RPC knows 1 and 0 only, but some libraries write the words."""

_SPACE = r"[ \t\r\n]*+"
_BETWEEN = r"(?:[ \t\r\n]++|</?(?:member|data|param)>|</value>)*+"
"""What means nothing after a value, a name, or the start of an array or a struct."""
_PLAIN = rf"""(?:<member>{_SPACE}<name>[^<\r]{{1,{LONGEST_NAME}}}+</name>{_SPACE}
    (?:<value/>|<value>{_SPACE}(?:<(?:string|{"|".join(_SCALARS)})(?:/>|>[^<\r]*+</[^>]++>){_SPACE}|[^<\r]*+)</value>)
    {_SPACE}</member>{_SPACE}){{1,{MOST_MEMBERS}}}+"""
"""The members of a struct without arrays, structs and what is rare in it."""
_MEMBER = re.compile(rf"<name>([^<]++)</name>{_SPACE}<value(?:/>|>(?:{_SPACE}<([a-zA-Z0-9.]++)/?>)?+([^<]*+))")
"""The name, type and text of each of them; a type that is not named is a string."""
_TOKEN = re.compile(
    rf"""(?:<value>{_SPACE})?<struct>{_SPACE}({_PLAIN})</struct>{_BETWEEN}
    |(?:<name>([^<\r&]++)</name>{_SPACE})?(<value>{_SPACE})?
        <(?!struct>|array>)([a-zA-Z][a-zA-Z0-9.:]*+)(?:/>|>([^<\r]*+)</\4>){_BETWEEN}
    |(?:<value>{_SPACE})?<(struct|array)>{_BETWEEN}(</\6>{_BETWEEN})?
    |</([^\s>]++)\s*+>{_BETWEEN}
    |<([^\s<>/!?]++)((?:[^"'>]++|"[^"]*+"|'[^']*+')*+)>
    |([^<]++)
    |(<!\[CDATA\[.*?\]\]>)
    |(<!--.*?-->|<\?xml[ ][^>]*+>[ \t\r\n]*+|<\?.*?\?>)
    |(<.*+)""",
    re.DOTALL | re.VERBOSE,
)
"""A piece of a well-formed document: the members of a plain struct, an element without others in it (the name of the
member that it is the value of, whether a value begins with it, its own name, its text), a start of a struct or an array
(and its end, if it is empty), an end, any other start (its name, its attributes), text, CDATA, what is passed over, and
at last what has not ended yet."""
_REFERENCE = re.compile("&([^;]*+);")
_MOST_REFERENCES = 256


class _References(dict[str, str]):
    """The characters that references stand for; without a DTD there are no others."""

    def __missing__(self, name: str) -> str:
        char = chr(int(name[2:], 16) if name[1] == "x" else int(name[1:]))
        if len(self) < _MOST_REFERENCES:
            self[name] = char
        return char


_CHARACTERS = _References(amp="&", lt="<", gt=">", quot='"', apos="'")


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text[:40]!r} is no boolean")
    return value


def _meant(chars: str) -> str:
    """Return text with its lines' ends, and its references, read as XML has it."""
    if "\r" in chars:
        chars = chars.replace("\r\n", "\n").replace("\r", "\n")
    if "&" in chars:
        parts = _REFERENCE.split(chars)
        parts[1::2] = map(_CHARACTERS.__getitem__, parts[1::2])
        return "".join(parts)
    return chars


def _struct(members: str) -> dict[str, Any]:
    """Return the struct of members as ``_PLAIN`` has them."""
    found = _MEMBER.findall(members)
    if "&" in members:
        found = [(_meant(name), tag, _meant(text)) for name, tag, text in found]
    return {name: text if tag in _TEXTS else _SCALARS[tag](text) for name, tag, text in found}


def _name(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise InvalidRequest(f"the body has a name of more than {LONGEST_NAME} characters")
    return text


def _check_length(values: int, kind: str, longest: int) -> None:
    if values > longest:
        if kind == "array":
            raise RequestTooLarge(f"the body has an array of more than {longest}: send several requests")
        raise InvalidRequest(f"the body has a struct of more than {MOST_MEMBERS} members")


class Unmarshaller(client.Unmarshaller):
    """Makes values of a document that comes in pieces, each of which a parser has found well-formed."""

    def __init__(self) -> None:
        super().__init__()
        self._stack: list[Any]
        self._marks: list[int]
        self._kinds: list[str] = []
        """The open arrays and structs, from the outermost to the innermost."""
        self._text: list[str] = []
        """The text since the last start of an element."""
        self._bare = False
        """Whether a value has begun whose type has not been named."""
        self._checked = 0
        """How many of the values ``check`` has seen."""
        self._left = ""
        """What has not ended yet."""

    def read(self, piece: str) -> None:
        """Make the values of what has ended with the next piece of the document.

        Raises InvalidRequest and, as xmlrpc.client does, errors of other kinds for what is no value.
        """
        whole = self._left + piece
        end = whole.rfind(">") + 1  # Not within a reference or a line's end.
        self._left = whole[end:]
        push, text, scalar, odd = self._stack.append, self._text, _SCALARS.get, 0
        for (
            members,
            name,
            within,
            tag,
            plain,
            opened,
            empty,
            ended,
            started,
            attributes,
            chars,
            cdata,
            passed,
            rest,
        ) in _TOKEN.findall(whole, 0, end):
            if members:
                if len(self._marks) >= DEEPEST:
                    self._start("struct")
                push(_struct(members))
                self._bare = False
            elif tag:
                if text:
                    text.clear()
                if name:
                    push(_name(name))
                if "&" in plain:
                    plain = _meant(plain)
                if tag == "string" or tag == "value":
                    push(plain)
                    self._bare = False
                elif (read := scalar(tag)) is not None:
                    push(read(plain))
                    self._bare = False
                elif tag == "name":
                    push(_name(plain))
                    self._bare = False
                else:
                    if within:
                        self._bare = True
                    odd += 1
                    self._start(tag)
                    text.append(plain)
                    self._end(tag)
            elif opened:
                if empty and len(self._marks) < DEEPEST:
                    push({} if opened == "struct" else [])
                    self._bare = False
                else:
                    self._start(opened)
                    if empty:
                        self._end(opened)
            elif ended:
                self._end(ended)
            elif started:
                odd += 1
                self._start(started)
                if attributes.endswith("/"):
                    self._end(started)
            elif chars:
                text.append(_meant(chars))
            elif cdata:
                odd += 1
                text.append(cdata[9:-3].replace("\r\n", "\n").replace("\r", "\n"))
            elif passed:
                odd += 1
            elif rest:
                self._left = rest + self._left
        if odd > MOST_ODD:
            raise InvalidRequest("the body has too many comments, attributes or unknown elements: leave them out")

    def _start(self, tag: str) -> None:
        self._text.clear()
        tag = tag.rpartition(":")[2]
        if tag == "value":
            self._bare = True
        elif tag == "struct" or tag == "array":
            if len(self._marks) >= DEEPEST:
                raise InvalidRequest(f"the body nests arrays and structs more than {DEEPEST} deep")
            self._kinds.append(tag)
            self._marks.append(len(self._stack))
            self._bare = False
        elif self._bare:
            if tag not in _DISPATCH:
                raise client.ResponseError(f"unknown tag {tag[:40]!r}")
            self._bare = False

    def _end(self, tag: str) -> None:
        stack = self._stack
        tag = tag.rpartition(":")[2]
        if tag == "value":
            if self._bare:
                stack.append("".join(self._text))
                self._bare = False
        elif tag == "struct":
            mark = self._marks.pop()
            self._kinds.pop()
            items = stack[mark:]
            _check_length(len(items), "struct", 2 * MOST_MEMBERS)
            if len(items) % 2:
                raise IndexError("list index out of range")  # As xmlrpc.client does.
            del stack[mark:]
            each = iter(items)
            stack.append(dict(zip(each, each, strict=True)))
        elif tag == "array":
            mark = self._marks.pop()
            self._kinds.pop()
            stack[mark:] = [stack[mark:]]
        elif (read := _SCALARS.get(tag)) is not None:
            stack.append(read("".join(self._text)))
        elif tag in _DISPATCH:
            text = "".join(self._text)
            _DISPATCH[tag](self, _name(text) if tag == "methodName" or tag == "name" else text)

    def check(self, longest_array: int) -> None:
        """Raise InvalidRequest or RequestTooLarge for what is too large already, though it has not ended yet."""
        if sum(map(len, self._text)) + len(self._left) > LONGEST_VALUE:
            raise InvalidRequest(f"the body has a text of more than {LONGEST_VALUE} characters")
        for mark, end, kind in zip(self._marks, [*self._marks[1:], len(self._stack)], self._kinds, strict=False):
            _check_length(end - mark, kind, longest_array if kind == "array" else 2 * MOST_MEMBERS)
            if kind == "array" and end - mark > MOST_SOURCES:
                new = self._stack[max(mark, self._checked) : end]
                if not all(type(each) is dict and each for each in new):
                    which = f"more than {MOST_SOURCES} values: only files, requests and calls may be more"
                    raise RequestTooLarge(f"the body has an array of {which}")
        self._checked = len(self._stack)
