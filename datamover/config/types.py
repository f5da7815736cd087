"""The base of the configuration's sections, and the types of their values.

A type refuses any other value with what was expected. The sections themselves are in ``schema``.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic_core import ErrorDetails

from datamover.config import credentials
from datamover.config.documentation import documentation
from datamover.config.endpoints import endpoint_interface, is_private_listener
from datamover.config.suggestions import did_you_mean, keys_at
from datamover.config.units import parse_duration, parse_mode, parse_rate, parse_size, positive
from datamover.errors import ConfigError

_ARRAY = "expected an array"
_EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "frozen_set_type": _ARRAY,
    "greater_than": "expected a whole number above 0",
    "int_type": "expected a whole number above 0",
    "mapping_type": "expected a table",
    "model_type": "expected a table",
    "path_type": "expected a path as a string",
    "string_type": "expected a string",
    "tuple_type": _ARRAY,
}
"""What was expected, where pydantic's own message speaks of Python's types."""
_SECRET = re.compile(r"password|passphrase|secret|token")
_NAMES = re.compile(r"'([^']+)'")
_LONGEST_SHOWN = 120


def _listener(value: str) -> str:
    try:
        endpoint_interface(value)
    except ValueError as error:
        raise ValueError(
            'expected a Twisted endpoint such as "tcp:10700:interface=127.0.0.1" or "unix:/run/datamover.sock"'
        ) from error
    return value


def _closed_listener(value: str) -> str:
    if not is_private_listener(_listener(value)):
        raise ValueError('expected a loopback or Unix listener, such as "tcp:10701:interface=127.0.0.1"')
    return value


def _absolute(value: Path) -> Path:
    if str(value).startswith(credentials.PREFIX):
        return credentials.resolve(str(value))
    try:
        value = value.expanduser()
    except RuntimeError:
        raise ValueError("expected an absolute path, or ~ and the name of a user who has a home directory") from None
    if not value.is_absolute():
        raise ValueError("expected an absolute path")
    return value


Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(positive)]
Rate = Annotated[int, BeforeValidator(parse_rate)]
Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(positive)]
Mode = Annotated[int, BeforeValidator(parse_mode), PlainSerializer("{:04o}".format, when_used="json")]
Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]
"""A number of things: it fits PostgreSQL's integer, as which limits are compared."""
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Listener = Annotated[str, AfterValidator(_listener)]
ClosedListener = Annotated[str, AfterValidator(_closed_listener)]


def within(expected: str, least: float = -math.inf, most: float = math.inf) -> AfterValidator:
    """Return a validator that refuses a number outside of these limits with what was expected."""

    def check(value: float) -> float:
        if not least <= value <= most:
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(check)


class Section(BaseModel):
    """A table of the file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    live: ClassVar[frozenset[str] | None] = frozenset()
    """The keys whose change takes effect while the service runs; None: all of them."""


Table = TypeVar("Table", bound=BaseModel)


def check_table(
    model: type[Table], table: Mapping[str, Any], *, file: str, key: str = "", known: Iterable[str] = ()
) -> Table:
    """Return ``table`` as a ``model``; raises ConfigError: file, key, value and expectation of each mistake.

    ``known``: keys that stand in the same table and are not the model's.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        raise ConfigError.of(mistakes(model, error, file=file, key=key, known=known).values()) from None


def mistakes(
    model: type[BaseModel], error: ValidationError, *, file: str, key: str = "", known: Iterable[str] = ()
) -> dict[tuple[int | str, ...], str]:
    """Return a sentence for each mistake in a table, by the keys that lead there."""
    found: dict[tuple[int | str, ...], str] = {}
    for each in error.errors(include_url=False):
        found.setdefault(each["loc"], _sentence(file, key, each, model, known))
    return found


def named_files(value: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the files that a configuration names in keys that end in "_file", as (full key, path)."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        items = {**fields, **(value.model_extra or {})}.items()
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple):
        items = enumerate(value)
    for name, each in items:
        where = f"{key}.{name}" if key else str(name)
        if where.endswith("_file") and isinstance(each, str | Path):
            with suppress(RuntimeError):  # "~" of an unknown user; who needs the file says so
                yield where, Path(each).expanduser()
        else:
            yield from named_files(each, where)


def _sentence(file: str, prefix: str, first: ErrorDetails, model: type[BaseModel], known: Iterable[str]) -> str:
    parts = [part if part.isprintable() else repr(part) for part in map(str, first["loc"])]
    key = ".".join([prefix, *parts] if prefix else parts)
    if first["type"] == "extra_forbidden":
        meant = did_you_mean(first["loc"][-1], [*keys_at(model, first["loc"][:-1]), *known])
        page = documentation("configuration.md")
        return f"{file}: {key}: unknown key{meant or f'; see {page} for those there are'}"
    if first["type"] == "missing":
        return f"{file}: {key}: missing, and there is no default"
    told = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    expected = _EXPECTED.get(first["type"], told)
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # Its keys do not go together.
        return f"{file}: {key}: {expected}"
    shown = _shown(key, first["input"])
    if expected == _ARRAY and shown == repr(first["input"]) and isinstance(first["input"], str):
        expected += f", such as [{json.dumps(first['input'])}]"
    meant = did_you_mean(first["input"], _NAMES.findall(told)) if first["type"] == "literal_error" else ""
    return f"{file}: {key} = {shown}: {expected}{meant}"


def _shown(key: str, value: Any) -> str:
    """Return a value for a message: shortened, and hidden where it may be a secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "an array of tables"
    text = repr(value)
    if ("://" in text and "@" in text) or (_SECRET.search(key) and not key.endswith("_file")):
        return "…"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
