"""The statements of queries.sql, by name.

Loading leaves what they mean to the file and what is done with them to the store.
"""

import re
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"-- name: (\S+)\s*")


class Queries:
    """Named blocks of SQL: ``queries.claim``, or ``queries["claim"]``."""

    def __init__(self, text: str) -> None:
        """Read blocks, each below a line ``-- name: x``. A name given twice is a ValueError.

        Whole-line comments are dropped: the driver would take a percent sign in one for a parameter.
        """
        blocks: dict[str, list[str]] = {}
        lines: list[str] | None = None
        for line in text.splitlines():
            if match := _NAME.fullmatch(line):
                if match[1] in blocks:
                    raise ValueError(f"two queries are named {match[1]!r}")
                lines = blocks[match[1]] = []
            elif line.strip() and not line.lstrip().startswith("--"):
                if lines is None:
                    raise ValueError(f"this stands before the first name: {line!r}")
                lines.append(line)
        for name, block in blocks.items():
            if not block:
                raise ValueError(f"the query {name!r} is empty")
        self._blocks = MappingProxyType({name: "\n".join(block) for name, block in blocks.items()})

    @classmethod
    def load(cls) -> "Queries":
        """Return what queries.sql holds."""
        return cls((resources.files("datamover.jobs") / "queries.sql").read_text("utf-8"))

    def names(self) -> tuple[str, ...]:
        """Return every name, in the file's order."""
        return tuple(self._blocks)

    def __getitem__(self, name: str) -> str:
        return self._blocks[name]

    def __getattr__(self, name: str) -> str:
        blocks = self.__dict__.get("_blocks", {})
        if name not in blocks:
            raise AttributeError(f"no query is named {name!r}")
        return str(blocks[name])
