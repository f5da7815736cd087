"""The table of methods.

Each namespace's module declares its methods here once, with signatures, help and permissions; ``calling`` and
``system.*`` read the table.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from inspect import cleandoc, signature
from itertools import product
from typing import Any
from xmlrpc.client import Fault

from datamover.bounds.calls import FEW_ELEMENTS, MOST_ELEMENTS
from datamover.errors import RequestError

NO_SUCH_METHOD = 8001

Refuse = Callable[[RequestError], Any]
"""Makes the answer for a refusal."""
Run = Callable[..., Coroutine[Any, Any, Any]]
Signature = tuple[str, ...]
"""The type of the result, then those of the parameters."""
_SEVERAL = {"id": ("int", "string"), "seconds": ("double", "int", "string")}


def fault(error: RequestError) -> Fault:
    """Return the Fault for a refusal."""
    return Fault(error.fault, error.message)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the interface."""

    name: str
    signatures: tuple[Signature, ...]
    run: Run
    """Called with the context, the caller and the parameters."""
    administrator: bool = False
    lenient: bool = False
    """A missing parameter counts as nil, and the method refuses it with a message of its own."""
    audited: bool = False
    """Every call is recorded in the audit trail, with its first parameters."""
    refuse: Refuse = fault
    abandoned: bool = False
    """Cancelled when the client disconnects; any other method runs to its end."""
    many: bool = False
    """Its parameters may hold thousands of files or calls."""

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters."""
        return list(signature(self.run).parameters)[2:]

    @property
    def help(self) -> str:
        return cleandoc(self.run.__doc__ or "")


def most_elements(methods: Mapping[str, Method], name: str | None) -> int:
    """Return the largest number of XML elements in a call's body; ``name`` is None while it is not known."""
    method = methods.get(name or "")
    return MOST_ELEMENTS if method is not None and method.many else FEW_ELEMENTS


class MethodTable:
    """The methods of one namespace, in the order of their declaration."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}

    def method(self, name: str, *signatures: str, **rules: Any) -> Callable[[Run], Run]:
        """Declare a coroutine function as a method; a signature is written "struct id seconds", the result first.

        ``id`` and ``seconds`` stand for every type that they may have. ``rules`` are further fields of ``Method``.
        """

        def declare(run: Run) -> Run:
            parsed = tuple(
                types
                for signature in signatures
                for types in product(*(_SEVERAL.get(word, (word,)) for word in signature.split()))
            )
            self.methods[name] = Method(name, parsed, run, **rules)
            return run

        return declare


def find(methods: Mapping[str, Method], name: str) -> Method:
    """Return a method; raises Fault 8001 for one that does not exist."""
    method = methods.get(name)
    if method is not None:
        return method
    raise Fault(NO_SUCH_METHOD, f"there is no method {name[:100]!r}: system.listMethods names those there are")
