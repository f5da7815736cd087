"""Make the values of a methodCall while its body is parsed: a faster and bounded xmlrpc.client.Unmarshaller.

This class handles the common elements (value, struct, member, name, string) itself, and those that Python's own reads
too strictly or too loosely (ints, booleans); Python's class handles the rest. The parser appends text to a list
directly.
"""

from collections.abc import Callable, Mapping
from typing import Any
from xmlrpc import client

from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.requests.coercion import WrittenInt
from datamover.text.bounds import DEEPEST as DEEPEST
from datamover.text.bounds import LONGEST_NAME as LONGEST_NAME
from datamover.text.bounds import LONGEST_VALUE, MOST_MEMBERS
from datamover.text.bounds import MOST_ELEMENTS as MOST_ELEMENTS

_DISPATCH: dict[str, Any] = client.Unmarshaller.dispatch
_NOTHING = frozenset({"member", "data", "param"})
"""Elements that only enclose others."""
_NAMES = frozenset({"name", "methodName"})
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("int", "i1", "i2", "i4", "i8", "biginteger"), WrittenInt.read),
    "boolean": lambda text: _boolean(text),
}
_BOOLEANS = {"1": True, "0": False, "true": True, "false": False}
"""XML-RPC knows 1 and 0 only, but some libraries write the words."""


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text[:40]!r} is no boolean")
    return value


class Unmarshaller(client.Unmarshaller):
    """A parser's target: it is called at each element's start, its end, and the text between them."""

    def __init__(self, most: int = MOST_ELEMENTS) -> None:
        """Accept at most ``most`` elements."""
        super().__init__()
        text: list[str] = []
        stack: list[Any] = self._stack
        marks: list[int] = self._marks
        clear, push, join, bare = text.clear, stack.append, "".join, False
        left = most
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
            nonlocal bare, left
            clear()
            left -= 1
            if left < 0:
                raise RequestTooLarge(f"the body has more than {most} elements: send several requests")
            if tag == "value":
                bare = True
                return
            plain = tag.rpartition(":")[2] if ":" in tag else tag
            if plain == "struct" or plain == "array":
                if len(marks) >= DEEPEST:
                    raise InvalidRequest(f"the body nests arrays and structs more than {DEEPEST} deep")
                kinds[len(marks)] = plain
                marks.append(len(stack))
            elif bare and plain not in dispatch:
                raise client.ResponseError(f"unknown tag {plain[:40]!r}")
            bare = plain == "value"

        def end(tag: str) -> None:
            nonlocal bare
            if tag == "value":
                if bare:
                    push(join(text))
                    bare = False
            elif tag == "string":
                push(join(text))
            elif tag == "name":
                push(name(join(text)))
            elif tag == "struct":
                mark = marks.pop()
                items = stack[mark:]
                bounded(len(items), "struct", 2 * MOST_MEMBERS)
                stack[mark:] = [dict(zip(items[::2], items[1::2], strict=False))]
                if len(items) % 2:
                    raise IndexError("list index out of range")  # As xmlrpc.client does.
            elif tag not in _NOTHING:
                plain = tag if tag in dispatch else tag.rpartition(":")[2]
                if plain == "value":
                    if bare:
                        push(join(text))
                        bare = False
                elif plain in _SCALARS:
                    push(_SCALARS[plain](join(text)))
                elif plain in dispatch:
                    whole = join(text)
                    dispatch[plain](self, name(whole) if plain in _NAMES else whole)

        def check(most_here: int, longest_array: int) -> None:
            if most - left > most_here:
                raise RequestTooLarge(f"the body has more than {most_here} elements: send several requests")
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
