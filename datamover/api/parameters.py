"""Reading the parameters that many methods share: ids, numbers, states, structs of options. Pure."""

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

from datamover.errors import InvalidRequest
from datamover.jobs.request_files import told, whole
from datamover.jobs.values import State

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
LONGEST_WAIT = 60.0
"""Seconds that a call may take to wait for news."""
LARGEST_NUMBER = 2**53


def job_id(value: object, key: str = "id") -> int:
    """Return a job's id; raises InvalidRequest for what is not a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{key}: {told(value)}: expected a job's id, an int")
    return value


def text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{key}: {told(value)}: expected text")
    return value


def seconds(value: object, key: str) -> float:
    """Return a time to wait, 0 to 60 s."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not isfinite(value)
        or not 0 <= value <= LONGEST_WAIT
    ):
        raise InvalidRequest(f"{key}: {told(value)}: expected 0 to {LONGEST_WAIT:.0f} seconds")
    return float(value)


def options(value: object, known: Collection[str]) -> Mapping[str, Any]:
    """Return a struct that has no other keys than the known ones."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"the options are {told(value)}: expected a struct")
    for key in value:
        if key not in known:
            raise InvalidRequest(f"{key}: unknown key; there are: {', '.join(sorted(known))}")
    return value


def optional_text(table: Mapping[str, Any], key: str) -> str | None:
    return text(table[key], key) if key in table else None


def state(table: Mapping[str, Any], key: str = "status") -> State | None:
    """Return the state that a filter names, None where there is no filter."""
    if key not in table:
        return None
    names = [each.value for each in State]
    if table[key] not in names:
        raise InvalidRequest(f"{key}: {told(table[key])}: expected one of {', '.join(names)}")
    return State(table[key])


def number(table: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    """Return a whole number within bounds."""
    value = whole(table.get(key, default))
    if value is None or not least <= value <= most:
        raise InvalidRequest(f"{key}: {told(table[key])}: expected a whole number from {least} to {most}")
    return value


def limit(table: Mapping[str, Any]) -> int:
    return number(table, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)


def cursor(table: Mapping[str, Any], key: str) -> int:
    """Return the place in the history that a cursor stands for; none, or "", is the beginning."""
    value = table.get(key, "")
    if value == "":
        return 0
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 18:
        raise InvalidRequest(f"{key}: {told(value)}: expected a cursor as jobs.events gives it")
    return int(value)
