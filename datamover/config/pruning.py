"""Take mistakes out of a configuration's tables, so that what is left can be checked further. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

Location = Sequence[int | str]
"""Where a mistake is: the keys that lead there."""

_STAND_INS: Mapping[str, str] = {
    "password_hash": "?",
    "certificate": f"sha256:{'0' * 64}",
    "username": "?",
    "url": "file:///",
    "telnet": "tcp:0:interface=127.0.0.1",
    "ssh": "tcp:0:interface=127.0.0.1",
}
"""Values that stand for a key whose own value is wrong where other keys ask whether it is there."""
_ITEMS: Mapping[str, str] = {"roles": "api"}
"""The same for items of an array."""
_GONE = object()


def stand_in(tables: Mapping[str, Any], mistakes: Iterable[Location]) -> dict[str, Any]:
    """Return the tables with a valid value in place of each mistake, or without it where ``_STAND_INS`` has none."""
    return _without(tables, mistakes, _value)


def leave_out(tables: Mapping[str, Any], mistakes: Iterable[Location]) -> dict[str, Any]:
    """Return the tables without the mistakes."""
    return _without(tables, mistakes, lambda at: _GONE)


def _value(at: Location) -> Any:
    key = str(at[-1])
    if isinstance(at[-1], int):
        return _ITEMS.get(str(at[-2]), _GONE)
    return "/" if key.endswith("_file") else _STAND_INS.get(key, _GONE)


def _without(tables: Mapping[str, Any], mistakes: Iterable[Location], value: Any) -> dict[str, Any]:
    pruned = deepcopy(dict(tables))
    for at in mistakes:
        above: list[tuple[Any, int | str]] = []
        here: Any = pruned
        for step in at[:-1]:
            if not _holds(here, step):
                break
            above.append((here, step))
            here = here[step]
        else:
            if isinstance(here, dict | list):
                _put(here, at[-1], value(at))
                continue
        if above:  # The tables do not go so deep: remove what holds it.
            _put(*above[-1], _GONE)
    return _swept(pruned)  # type: ignore[no-any-return]


def _holds(here: Any, step: int | str) -> bool:
    if isinstance(here, dict):
        return step in here
    return isinstance(here, list) and isinstance(step, int) and step < len(here)


def _put(here: Any, step: int | str, value: Any) -> None:
    if isinstance(here, dict) or _holds(here, step):
        here[step] = value


def _swept(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _swept(each) for key, each in value.items() if each is not _GONE}
    if isinstance(value, list):
        return [_swept(each) for each in value if each is not _GONE]
    return value
