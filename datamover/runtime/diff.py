"""What of a new configuration takes effect while the service runs, and what needs a restart. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datamover.config.checks import check_whole
from datamover.config.load import LOCAL, built_in_local, has_built_in_local
from datamover.config.schema import Config


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload changes."""

    settings: Config
    """The new configuration, in which what needs a restart is as it was."""
    changed: tuple[str, ...]
    """The keys that take effect, as "limits.queued" or "destinations.archive"; sorted."""
    restart: tuple[str, ...]
    """The keys that differ in the file and do not take effect; sorted."""


def changes(running: Config, read: Config) -> Changes:
    """Compare two configurations of one model, section by section.

    Raises ConfigError where what takes effect does not fit what needs a restart.
    """
    if has_built_in_local(read):  # Another data directory takes effect after a restart, and so does its ``local``.
        read = read.model_copy(update={"destinations": {LOCAL: built_in_local(running.service)}})
    merged: dict[str, Any] = {"path": read.path}
    changed: set[str] = set()
    restart: set[str] = set()
    for name in set(type(running).model_fields) - {"path"}:
        old, new = getattr(running, name), getattr(read, name)
        kept = {}
        for key, live in _differing(old, new):
            if not live:
                kept[key] = getattr(old, key)
            whole = not key or (live and name in running.declared)
            (changed if live else restart).add(name if whole else f"{name}.{key}")
        merged[name] = new.model_copy(update=kept) if kept else new
    settings = running.model_copy(update=merged)
    check_whole(settings, str(settings.path))
    return Changes(settings, tuple(sorted(changed)), tuple(sorted(restart)))


def _differing(old: Any, new: Any) -> Iterator[tuple[str, bool]]:
    """Yield the keys in which two sections differ, and whether each takes effect; "" where one of them is None."""
    if isinstance(old, Mapping):
        yield from ((key, True) for key in {*old, *new} if old.get(key) != new.get(key))
    elif old is None or new is None:
        if old is not new:
            yield "", True
    else:
        live = type(old).live
        for key in type(old).model_fields:
            if getattr(old, key) != getattr(new, key):
                yield key, live is None or key in live
