"""What became of a file that was to be moved, and whether that may be: what holds at any destination, whatever it does.

COMPLETED is a promise about the target's name. What did not complete leaves what was there before, and says why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from datamover.jobs.values import FileRecord, State


class There(Enum):
    """What is under the target's name."""

    WHOLE = "the file, whole"
    BEFORE = "what was there before"
    """Also: nothing, where there was nothing."""
    OTHER = "something else"


def look(target: Path, sent: bytes, before: bytes | None) -> There:
    """Look at a target, past whatever shows it to the service."""
    try:
        found = target.read_bytes()
    except FileNotFoundError:
        found = None
    if found == sent:
        return There.WHOLE
    return There.BEFORE if found == before else There.OTHER


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the move of one file ended."""

    what: str
    """What was moved where, and what went wrong there, to tell one from the other."""
    state: State
    error: Mapping[str, Any] | None
    """The last that was met; a file that completed may have met one before."""
    attempt: int
    there: There
    left: tuple[str, ...]
    """Names of part files beside the target."""

    @classmethod
    def of(cls, what: str, record: FileRecord, there: There, left: Iterable[Path] = ()) -> "Outcome":
        error = record.error or record.first_error
        return cls(what, record.state, error, record.attempt, there, tuple(sorted(path.name for path in left)))

    @property
    def whole_or_said(self) -> bool:
        """COMPLETED and there whole; or FAILED, with a reason. The one assertion that has no exception."""
        if self.state is State.COMPLETED:
            return self.there is There.WHOLE
        return self.state is State.FAILED and bool(self.error and self.error["message"])

    @property
    def untouched(self) -> bool:
        """Whether what did not complete left what was there before."""
        return self.state is State.COMPLETED or self.there is There.BEFORE

    def says(self, *words: str) -> bool:
        """Whether the reason has one of these words."""
        return self.error is not None and any(word in self.error["message"] for word in words)

    def __str__(self) -> str:
        said = f" {self.error['code']}: {self.error['message']}" if self.error else ""
        left = f"; left beside it: {', '.join(self.left)}" if self.left else ""
        return f"{self.what}: {self.state.value} at attempt {self.attempt},{said}; there is {self.there.value}{left}"


def lines(outcomes: Iterable[Outcome]) -> str:
    """Return outcomes for a person who reads of a failed test."""
    return "".join(f"\n{outcome}" for outcome in outcomes)
