"""Which lines are written to the log: those of a level and above. It can be changed while the process runs."""

from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
)
from zope.interface import implementer


class Level:
    """The level of one process's log."""

    def __init__(self) -> None:
        self._least: Any = None

    @property
    def level(self) -> str | None:
        """The least level that is written; None: nothing is filtered, the process logs in a way of its own."""
        return None if self._least is None else str(self._least.name)

    def set(self, name: str) -> None:
        """Write from a level on: one of debug, info, warn, error, critical."""
        self._least = LogLevel.levelWithName(name)

    def filter(self, observer: ILogObserver) -> ILogObserver:
        """Return an observer that is told events of the level and above, as it then is; it begins with "info"."""
        self.set("info")
        return FilteringLogObserver(observer, [_Least(self)])

    def passes(self, event: LogEvent) -> bool:
        """Tell whether an event is written; one without a level is."""
        level: Any = event.get("log_level")
        return level is None or self._least is None or bool(level >= self._least)


@implementer(ILogFilterPredicate)
class _Least:
    def __init__(self, level: Level) -> None:
        self._level = level

    def __call__(self, event: LogEvent) -> Any:
        return PredicateResult.maybe if self._level.passes(event) else PredicateResult.no
