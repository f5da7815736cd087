"""The kinds of arguments: how a value is read, how an error says what is expected, and what Tab offers."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from datamover.bounds.calls import LARGEST_JOB_ID, LARGEST_LIMIT, LONGEST_PARAMETER
from datamover.config.suggestions import did_you_mean
from datamover.config.units import parse_duration
from datamover.console.commands.context import CommandContext
from datamover.jobs.values import Overwrite, State

COMPLETED = 100
"""Jobs whose numbers are offered, the newest."""


class Unfit(ValueError):
    """A value that does not fit its argument; the message says why, if the kind's own words do not."""


async def _none(context: CommandContext) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of argument."""

    expected: str
    read: Callable[[Any, CommandContext], Any]
    """Returns the value as the command takes it; raises Unfit."""
    candidates: Callable[[CommandContext], Awaitable[Sequence[str]]] = _none
    """Returns what it may be, as text."""
    quoted: bool = False
    """It is written in quotes."""


def number(least: int, most: int, expected: str, candidates: Any = _none) -> Kind:
    """Return the kind of a whole number; one that is written as text is read too."""

    def read(value: Any, context: CommandContext) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Unfit
        return value

    return Kind(expected, read, candidates)


def choice(what: str, *choices: str, meant: Mapping[str, Any] | None = None) -> Kind:
    """Return the kind of one of several words, in capitals or not; read as what it means, if that is given."""
    known = {each.casefold(): each for each in choices}
    expected = f"{what}: {', '.join(choices)}"

    def read(value: Any, context: CommandContext) -> Any:
        if not isinstance(value, str) or value.casefold() not in known:
            raise Unfit(f"expected {expected}{did_you_mean(value, choices)}")
        word = known[value.casefold()]
        return meant[word] if meant else word

    async def candidates(context: CommandContext) -> Sequence[str]:
        return choices

    return Kind(expected, read, candidates, quoted=True)


def text(expected: str, longest: int = LONGEST_PARAMETER, candidates: Any = _none, *, needed: bool = False) -> Kind:
    """Return the kind of any text; with ``needed``, of text that is not blank."""

    def read(value: Any, context: CommandContext) -> str:
        if not isinstance(value, str):
            raise Unfit
        _check_text(value)
        if needed and not value.strip():
            raise Unfit
        if len(value) > longest:
            raise Unfit(f"it has {len(value)} characters, expected {longest} at most")
        return value

    return Kind(expected, read, candidates, quoted=True)


async def _jobs(context: CommandContext) -> Sequence[str]:
    return [str(job.id) for job in await context.service.newest.jobs(limit=COMPLETED)]


async def _destinations(context: CommandContext) -> Sequence[str]:
    return context.service.runtimes.now.registry.names()


async def _places(context: CommandContext) -> Sequence[str]:
    return [f"{name}:" for name in await _destinations(context)]


async def _owners(context: CommandContext) -> Sequence[str]:
    return sorted({job.owner for job in await context.service.newest.jobs(limit=COMPLETED)})


async def _labels(context: CommandContext) -> Sequence[str]:
    return sorted({job.label for job in await context.service.newest.jobs(limit=COMPLETED) if job.label})


async def _nodes(context: CommandContext) -> Sequence[str]:
    return [str(node["name"]) for node in await context.service.store.nodes()]


async def _sections(context: CommandContext) -> Sequence[str]:
    return sorted(set(type(context.service.runtimes.now.settings).model_fields) - {"path"})


def _moment(value: Any, context: CommandContext) -> datetime:
    try:
        if isinstance(value, str):
            with suppress(ValueError):
                found = datetime.fromisoformat(value)
                return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        return datetime.now(UTC) - timedelta(seconds=parse_duration(value))
    except (ValueError, OverflowError):
        raise Unfit from None


def _seconds(value: Any, context: CommandContext) -> float:
    try:
        return parse_duration(value)
    except ValueError:
        raise Unfit from None


def _request(value: Any, context: CommandContext) -> Any:
    if not isinstance(value, str | dict):
        raise Unfit
    try:
        _check_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise error if isinstance(error, Unfit) else Unfit("it holds what a request cannot have") from None
    return value


def _check_text(value: str) -> None:
    """Raise Unfit for text that PostgreSQL does not store: NUL and surrogates."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise Unfit("it holds characters that are no text")


def _flag(value: Any, context: CommandContext) -> bool:
    if not isinstance(value, bool):
        raise Unfit
    return value


async def _yes_or_no(context: CommandContext) -> Sequence[str]:
    return ("True", "False")


def _section(value: Any, context: CommandContext) -> str:
    known = set(type(context.service.runtimes.now.settings).model_fields) - {"path"}
    if not isinstance(value, str) or value not in known:
        raise Unfit(f"expected one of {', '.join(sorted(known))}{did_you_mean(value, known)}")
    return value


STATES = {state.value: state for state in State}

JOB = number(1, LARGEST_JOB_ID, "a job's number, such as 12", _jobs)
LIMIT = number(1, LARGEST_LIMIT, f"a whole number from 1 to {LARGEST_LIMIT}")
STATUS = choice("a status in quotes", *STATES, meant=STATES)
DESTINATION = text("a destination's name in quotes, as destinations() lists them", candidates=_destinations)
OWNER = text("a client's name in quotes", candidates=_owners)
LABEL = text("a label in quotes", candidates=_labels)
NODE = text("a process's name in quotes, as nodes() lists them", candidates=_nodes)
MOMENT = Kind("how long ago, such as '2h' or '7d', or a time in UTC, such as '2026-01-31 12:00'", _moment, quoted=True)
SECONDS = Kind("a time such as 30, '10m' or '2h'", _seconds)
FLAG = Kind("True or False", _flag, _yes_or_no)
LEVEL = choice("a level in quotes", "debug", "info", "warn", "error", "critical")
SECTION = Kind("a section of the configuration in quotes, such as 'limits'", _section, _sections, quoted=True)
OVERWRITE = choice("what to do where there is a file already, in quotes", *(each.value for each in Overwrite))
REQUEST = Kind(
    "a URL or 'NAME:PATH' in quotes, or a dictionary as jobs.submit takes it", _request, _places, quoted=True
)
PLACE = text("where the file goes, 'NAME:PATH'", candidates=_places)
