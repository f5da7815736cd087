"""Read the parameters that several methods share: ids, numbers, states, structs of options. Pure.

Each function raises InvalidRequest, which names the parameter, its value and what was expected.
"""

from collections.abc import Mapping
from typing import Any

from datamover.bounds.calls import DEFAULT_LIMIT, LARGEST_LIMIT, LONGEST_CURSOR, LONGEST_PARAMETER, LONGEST_WAIT
from datamover.errors import InvalidRequest
from datamover.jobs.values import State
from datamover.requests import coercion
from datamover.requests.coercion import told, whole


def job_id(value: object, key: str = "id") -> int:
    """Return a job's id, given as an int or as a string of digits."""
    number = coercion.integer(value)
    if number is None:
        raise InvalidRequest(f"{key}: {told(value)}: expected a job's id, an int")
    return number


def text(value: object, key: str, longest: int = LONGEST_PARAMETER) -> str:
    """Return a text of at most ``longest`` characters."""
    plain = coercion.text(value)
    if plain is None or len(plain) > longest:
        raise InvalidRequest(f"{key}: {told(value)}: expected text of at most {longest} characters")
    return plain


def seconds(value: object, key: str) -> float:
    """Return a time to wait, 0 to 60 s."""
    number = coercion.number(value)
    if number is None or not 0 <= number <= LONGEST_WAIT:
        raise InvalidRequest(f"{key}: {told(value)}: expected 0 to {LONGEST_WAIT:.0f} seconds")
    return float(number)


def options(value: object, *known: str) -> Mapping[str, Any]:
    """Return a struct with known keys only; None counts as an empty one."""
    table = coercion.struct({} if value is None else value)
    if table is None:
        raise InvalidRequest(f"the options are {told(value)}: expected a struct")
    coercion.known_keys(table, frozenset(known))
    return table


def optional_text(table: Mapping[str, Any], key: str) -> str | None:
    return text(table[key], key) if key in table else None


def state(table: Mapping[str, Any], key: str = "status") -> State | None:
    """Return the state that a filter names, None if there is no filter."""
    if key not in table:
        return None
    names = [each.value for each in State]
    if not isinstance(table[key], str) or table[key] not in names:
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
    """Return the position in the history that a cursor stands for; a missing or empty one is the beginning."""
    value = coercion.text(table.get(key, ""))
    if value == "":
        return 0
    if value is None or not value.isascii() or not value.isdigit() or len(value) > LONGEST_CURSOR:
        raise InvalidRequest(f"{key}: {told(table[key])}: expected a cursor as jobs.events gives it")
    return int(value)
