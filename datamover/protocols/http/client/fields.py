"""The header fields of an answer, and how errors quote their values. Pure."""

Fields = dict[bytes, list[bytes]]
"""Header fields: names in lower case -> their values, in order."""

_TOLD = 40


class Malformed(Exception):
    """The bytes are not HTTP, or contradict themselves; ``args[0]`` says how, to follow "cannot be read: "."""


class Excessive(Malformed):
    """More bytes are announced than a file can have; trying again will not help."""


def told(value: bytes) -> str:
    """Return the beginning of a value for an error message: quoted, without what may be a query."""
    start, cut, _ = value[: _TOLD + 1].partition(b"?")
    ending = "…" if cut or len(start) > _TOLD else ""
    return repr(start[:_TOLD].decode("ascii", "backslashreplace") + ending)


def tokens(fields: Fields, name: bytes) -> list[str]:
    """Return the tokens of a list header, in lower case, without parameters; empty ones are left out."""
    values = fields.get(name)
    if values is None:
        return []
    members = b",".join(values).decode("latin-1").lower().split(",")
    return [token for member in members if (token := member.partition(";")[0].strip(" \t\"'"))]
