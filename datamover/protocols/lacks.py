"""The abilities that one destination turned out not to have, learnt from its answers and remembered in this process.

A lack does not fail a file that can arrive without the ability: the next best thing is done, and reported.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from datamover.protocols.base import Ability, Lack

PRIVATE = 0o600
FORGOTTEN = 3600.0
"""Seconds after which an ability is tried again: the server may have been repaired."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    at: float
    lack: Lack


class Lacks:
    """The abilities that one destination lacks. Safe to use from threads."""

    def __init__(self, seconds: Callable[[], float], undeclared: Collection[Ability] = ()) -> None:
        """``seconds`` is a monotonic clock; ``undeclared`` are the abilities that the protocol itself lacks."""
        self._seconds = seconds
        self._undeclared = undeclared
        self._learnt: dict[Ability, _Learnt] = {}
        self._seen: set[Ability] = set()

    def learn(self, ability: Ability, why: Any) -> Lack:
        """Record that the destination lacks an ability; ``why`` is what it answered."""
        lack = Lack(ability, str(why))
        self._learnt[ability] = _Learnt(self._seconds(), lack)
        return lack

    def saw(self, ability: Ability) -> None:
        """Record that the destination has an ability."""
        self._seen.add(ability)
        self._learnt.pop(ability, None)

    def known(self, ability: Ability) -> bool:
        """Tell whether the ability was ever seen to work: if so, a refusal is an error and not a lack."""
        return ability in self._seen

    def get(self, ability: Ability) -> Lack | None:
        """Return the lack of an ability, None if the ability may be tried."""
        learnt = self._learnt.get(ability)
        if learnt is None or self._seconds() - learnt.at > FORGOTTEN:
            return None
        return learnt.lack

    def first_mode(self, mode: int) -> int:
        """Return the mode to create a part file with: private, unless ``mode`` cannot be set later."""
        return PRIVATE | (mode if Ability.SET_MODE in self else 0)

    def __contains__(self, ability: object) -> bool:
        """Tell whether the protocol or the destination lacks an ability."""
        return isinstance(ability, Ability) and (ability in self._undeclared or self.get(ability) is not None)

    def __iter__(self) -> Iterator[Lack]:
        """Iterate over the lacks of the destination, in the order of ``Ability``."""
        return iter([lack for ability in Ability if (lack := self.get(ability)) is not None])
