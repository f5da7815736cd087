"""The statements of queries.sql, by name."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"-- name: (\S+)\s*")
_UNTIL_HERE = re.compile(r"-- until here, as (\S+): (.+)")
_PREPARED = re.compile(r"-- prepared: (\w+ [\w\[\] ]+(?:, \w+ [\w\[\] ]+)*)\s*")
_TYPED = re.compile(r"(\w+) ([^,]+)")
_PARAMETER = re.compile(r"%\((\w+)\)s|%%")


class Prepared(str):
    """A statement that each connection prepares once (PREPARE), because planning it costs more than executing it."""

    name: str
    types: Mapping[str, str]
    """The types of its parameters, by name."""

    def __new__(cls, text: str, name: str, types: Mapping[str, str]) -> "Prepared":
        statement = super().__new__(cls, text)
        statement.name, statement.types = name, types
        return statement

    @property
    def preparation(self) -> str:
        """The PREPARE statement, to be sent without parameters."""
        places = {name: f"${place}" for place, name in enumerate(self.types, 1)}
        body = _PARAMETER.sub(lambda match: places[match[1]] if match[1] else "%", self)
        return f"PREPARE {self.name} ({', '.join(self.types.values())}) AS {body}"

    @property
    def execution(self) -> str:
        """The EXECUTE statement, to be sent with the parameters."""
        return f"EXECUTE {self.name} ({', '.join(f'%({name})s' for name in self.types)})"


class NamedQueries:
    """Named blocks of SQL: ``queries.claim``, or ``queries["claim"]``."""

    def __init__(self, text: str) -> None:
        """Read blocks, each below a line ``-- name: x``; raises ValueError for a name that is given twice.

        Lines ``-- prepared: a integer, b text`` make the block ``Prepared`` and give the types of its parameters. A
        line ``-- until here, as y: SELECT 1`` makes a second block, ``y``: the lines above it and the text after the
        colon.

        Comment lines are dropped: the driver would take a percent sign in them for a parameter.
        """
        blocks: dict[str, list[str]] = {}
        types: dict[str, dict[str, str]] = {}
        lines: list[str] | None = None
        name = ""
        for line in text.splitlines():
            if match := _NAME.fullmatch(line):
                name = match[1]
                if name in blocks:
                    raise ValueError(f"two queries are named {name!r}")
                lines = blocks[name] = []
            elif (match := _PREPARED.fullmatch(line)) and lines is not None:
                types.setdefault(name, {}).update(_TYPED.findall(match[1]))
            elif (match := _UNTIL_HERE.fullmatch(line)) and lines:
                blocks[match[1]] = [*lines, match[2]]
            elif line.strip() and not line.lstrip().startswith("--"):
                if lines is None:
                    raise ValueError(f"a line before the first name: {line!r}")
                lines.append(line)
        for name, block in blocks.items():
            if not block:
                raise ValueError(f"the query {name!r} is empty")
        texts = {name: "\n".join(block) for name, block in blocks.items()}
        self._blocks = MappingProxyType(
            {name: Prepared(text, name, types[name]) if name in types else text for name, text in texts.items()}
        )

    @classmethod
    @cache
    def load(cls) -> "NamedQueries":
        """Return the queries of queries.sql."""
        return cls((resources.files("datamover.jobs") / "queries.sql").read_text("utf-8"))

    def names(self) -> tuple[str, ...]:
        """Return all names, in the file's order."""
        return tuple(self._blocks)

    def __getitem__(self, name: str) -> str:
        return self._blocks[name]

    def __getattr__(self, name: str) -> str:
        blocks = self.__dict__.get("_blocks", {})
        if name not in blocks:
            raise AttributeError(f"no query is named {name!r}")
        text: str = blocks[name]
        return text
