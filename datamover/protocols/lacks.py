"""The abilities that one destination turned out not to have, learnt from its answers, kept in this process.

Nothing of it keeps a file from arriving. Whoever needs an ability that is lacking does the next best, and says so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from datamover.protocols.base import Ability, Lack

PRIVATE = 0o600
FORGOTTEN = 3600.0
"""Seconds after which it is tried again: a server may have been mended."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    at: float
    lack: Lack


class Lacks:
    """The abilities that one destination lacks; threads may use it.

    ``seconds`` is a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._learnt: dict[Ability, _Learnt] = {}
        self._seen: set[Ability] = set()

    def learn(self, ability: Ability, why: Any) -> Lack:
        """Take note that the other side cannot do something, in its own words; return the note."""
        lack = Lack(ability, str(why))
        self._learnt[ability] = _Learnt(self._seconds(), lack)
        return lack

    def saw(self, ability: Ability) -> None:
        """Take note that it can."""
        self._seen.add(ability)
        self._learnt.pop(ability, None)

    def known(self, ability: Ability) -> bool:
        """Tell whether it was ever seen to work: then a refusal is trouble, and no lack."""
        return ability in self._seen

    def get(self, ability: Ability) -> Lack | None:
        """Return what is known to be lacking, None for what may be tried."""
        learnt = self._learnt.get(ability)
        if learnt is None or self._seconds() - learnt.at > FORGOTTEN:
            return None
        return learnt.lack

    def first_mode(self, mode: int) -> int:
        """Return the mode to make a part file with: nobody else's to read, unless ``mode`` can only be given now."""
        return PRIVATE | (mode if Ability.SET_MODE in self else 0)

    def __contains__(self, ability: object) -> bool:
        return isinstance(ability, Ability) and self.get(ability) is not None

    def __iter__(self) -> Iterator[Lack]:
        """Return what is lacking, in the order of the abilities."""
        return iter([lack for ability in Ability if (lack := self.get(ability)) is not None])
