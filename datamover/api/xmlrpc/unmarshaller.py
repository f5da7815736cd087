"""The values of a methodCall, made while its body is parsed.

The parser calls ``start`` and ``end`` for each element, so these are what a large body costs. They read the elements
that are common, and those that xmlrpc.client reads too narrowly or too widely (ints, booleans), without another call;
xmlrpc.client reads the rest. The text of an element goes from the parser straight into a list.
"""

from collections.abc import Callable, Mapping
from typing import Any
from xmlrpc import client

from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.requests.coercion import WrittenInt
from datamover.text.bounds import DEEPEST as DEEPEST
from datamover.text.bounds import LONGEST_NAME as LONGEST_NAME
from datamover.text.bounds import LONGEST_VALUE, MOST_MEMBERS

_DISPATCH: dict[str, Any] = client.Unmarshaller.dispatch
_NOTHING = frozenset({"member", "data", "param"})
"""Elements that only enclose others."""
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "nil": lambda _: None,
    **dict.fromkeys(("int", "i1", "i2", "i4", "i8", "biginteger"), WrittenInt.read),
    "boolean": lambda text: _boolean(text),
}
_LEAVES = _SCALARS.keys() | {"string", "name"}
"""Elements that hold nothing but text."""
_COMMON = _LEAVES | _NOTHING | {"value", "struct", "array"}
"""Names that need no look for a namespace's prefix."""
_BOOLEANS = {"1": True, "0": False, "true": True, "false": False}
"""XML-RPC knows 1 and 0 only, but some libraries write the words."""


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text[:40]!r} is no boolean")
    return value


class Unmarshaller(client.Unmarshaller):
    """A parser's target: it is called at each element's start, its end, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        text: list[str] = []
        stack: list[Any] = self._stack
        marks: list[int] = self._marks
        clear, push, join, scalar, bare = text.clear, stack.append, "".join, _SCALARS.get, False
        dispatch = _DISPATCH
        kinds = [""] * DEEPEST
        """The open arrays and structs, from the outermost to the innermost."""

        def name(text: str) -> str:
            if len(text) > LONGEST_NAME:
                raise InvalidRequest(f"the body has a name of more than {LONGEST_NAME} characters")
            return text

        def bounded(values: int, kind: str, longest: int) -> None:
            if values > longest:
                if kind == "array":
                    raise RequestTooLarge(f"the body has an array of more than {longest}: send several requests")
                raise InvalidRequest(f"the body has a struct of more than {MOST_MEMBERS} members")

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal bare
            clear()
            if tag not in _COMMON:
                tag = tag.rpartition(":")[2]
            if tag == "value":
                bare = True
            elif tag in _LEAVES:
                bare = False
            elif tag == "struct" or tag == "array":
                if len(marks) >= DEEPEST:
                    raise InvalidRequest(f"the body nests arrays and structs more than {DEEPEST} deep")
                kinds[len(marks)] = tag
                marks.append(len(stack))
                bare = False
            elif bare:
                if tag not in dispatch:
                    raise client.ResponseError(f"unknown tag {tag[:40]!r}")
                bare = False

        def end(tag: str) -> None:
            nonlocal bare
            if tag not in _COMMON:
                tag = tag.rpartition(":")[2]
            if tag == "value":
                if bare:
                    push(join(text))
                    bare = False
            elif tag == "name":
                push(name(join(text)))
            elif tag == "string":
                push(join(text))
            elif tag == "member":
                pass
            elif (read := scalar(tag)) is not None:
                push(read(join(text)))
            elif tag == "struct":
                mark = marks.pop()
                items = stack[mark:]
                bounded(len(items), "struct", 2 * MOST_MEMBERS)
                if len(items) % 2:
                    raise IndexError("list index out of range")  # As xmlrpc.client does.
                del stack[mark:]
                each = iter(items)
                push(dict(zip(each, each, strict=True)))
            elif tag == "array":
                mark = marks.pop()
                stack[mark:] = [stack[mark:]]
            elif tag not in _NOTHING and tag in dispatch:
                dispatch[tag](self, name(join(text)) if tag == "methodName" else join(text))

        def check(longest_array: int) -> None:
            if sum(map(len, text)) > LONGEST_VALUE:
                raise InvalidRequest(f"the body has a text of more than {LONGEST_VALUE} characters")
            for mark, end, kind in zip(marks, [*marks[1:], len(stack)], kinds, strict=False):
                bounded(end - mark, kind, longest_array if kind == "array" else 2 * MOST_MEMBERS)

        self.check = check
        self.start = start  # type: ignore[method-assign,assignment]
        self.end = end  # type: ignore[method-assign]
        self.data = text.append  # type: ignore[method-assign,assignment]

    def close(self) -> tuple[Any, ...]:
        """Return the parameters; raises ResponseError for an incomplete call."""
        del self.start, self.end, self.data, self.check  # Break the reference cycle.
        return super().close()
