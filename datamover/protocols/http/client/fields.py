"""The fields of an answer's head, and how their values are told in an error. Pure."""

Fields = dict[bytes, list[bytes]]
"""Header fields: names in lower case, the values of each in the order they came."""

_TOLD = 40


class Malformed(Exception):
    """What came is not HTTP, or contradicts itself; ``args[0]`` says how, to follow "cannot be read: "."""


class Excessive(Malformed):
    """More is announced than can be: it will be so again."""


def told(value: bytes) -> str:
    """Return the beginning of what a server sent as it may stand in an error: quoted, without what may be a query."""
    start, cut, _ = value[: _TOLD + 1].partition(b"?")
    ending = "…" if cut or len(start) > _TOLD else ""
    return repr(start[:_TOLD].decode("ascii", "backslashreplace") + ending)


def tokens(fields: Fields, name: bytes) -> list[str]:
    """Return the members of a header that is a list of tokens, in lower case, without parameters and empty ones."""
    values = fields.get(name)
    if values is None:
        return []
    members = b",".join(values).decode("latin-1").lower().split(",")
    return [token for member in members if (token := member.partition(";")[0].strip(" \t\"'"))]
