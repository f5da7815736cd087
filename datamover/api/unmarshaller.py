"""The values of a methodCall, made while its body is parsed: as xmlrpc.client makes them, in fewer steps, and bounded.

What is common (value, struct, member, name, string) is done here, the rest by Python's own. The text of an element goes
from the parser straight into a list.
"""

from typing import Any
from xmlrpc import client

from datamover.errors import InvalidRequest

DEEPEST = 32
"""Arrays and structs within each other."""

_DISPATCH: dict[str, Any] = client.Unmarshaller.dispatch
_NOTHING = frozenset({"member", "data", "param"})
"""Elements that mean something by what is in them."""


class Unmarshaller(client.Unmarshaller):
    """What a parser tells of the elements that begin and end, and of the text between them."""

    def __init__(self) -> None:
        super().__init__()
        text: list[str] = []
        stack: list[Any] = self._stack
        marks: list[int] = self._marks
        clear, push, join, bare = text.clear, stack.append, "".join, False
        dispatch = _DISPATCH

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal bare
            clear()
            if tag == "value":
                bare = True
                return
            plain = tag.rpartition(":")[2] if ":" in tag else tag
            if plain == "struct" or plain == "array":
                if len(marks) >= DEEPEST:
                    raise InvalidRequest(f"the body nests arrays and structs more than {DEEPEST} deep")
                marks.append(len(stack))
            elif bare and plain not in dispatch:
                raise client.ResponseError(f"unknown tag {plain!r}")
            bare = plain == "value"

        def end(tag: str) -> None:
            nonlocal bare
            if tag == "value":
                if bare:
                    push(join(text))
                    bare = False
            elif tag == "string" or tag == "name":
                push(join(text))
            elif tag == "struct":
                mark = marks.pop()
                items = stack[mark:]
                stack[mark:] = [dict(zip(items[::2], items[1::2], strict=False))]
                if len(items) % 2:
                    raise IndexError("list index out of range")  # as Python's own
            elif tag not in _NOTHING:
                plain = tag if tag in dispatch else tag.rpartition(":")[2]
                if plain == "value":
                    if bare:
                        push(join(text))
                        bare = False
                elif plain in dispatch:
                    dispatch[plain](self, join(text))

        self.start = start  # type: ignore[method-assign,assignment]
        self.end = end  # type: ignore[method-assign]
        self.data = text.append  # type: ignore[method-assign,assignment]

    def close(self) -> tuple[Any, ...]:
        """Return the parameters; raises ResponseError for what is not whole."""
        del self.start, self.end, self.data  # They hold on to this, and this to them.
        return super().close()
