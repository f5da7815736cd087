"""Make a job of what ``submit`` is given, by the rules for an administrator's requests."""

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import deferLater

from datamover.bounds.calls import WORK_AT_ONCE
from datamover.console.commands.context import CommandContext, CommandError
from datamover.jobs.values import NewJob
from datamover.requests.jobs import checking
from datamover.runtime.request_rules import request_rules
from datamover.runtime.snapshot import Runtime

_PLACE = re.compile(r"([^:/]+):(?!//)(.*)", re.DOTALL)


async def new_job(
    runtime: Runtime,
    context: CommandContext,
    source: str | Mapping[str, Any],
    to: str | None,
    options: Mapping[str, Any],
) -> NewJob:
    """Return the job that is asked for; raises CommandError, and what ``requests.jobs.checking`` raises."""
    named = {key: value for key, value in options.items() if value is not None}
    request = {**source, **named} if isinstance(source, Mapping) else {**_ends(source, to), **named}
    if isinstance(source, Mapping) and to is not None:
        raise CommandError("submit: to is given beside a dictionary: put 'destination' and 'path' into that")
    steps, clock = checking(request, request_rules(runtime, context.visitor.who)), context.service.clock
    until = clock.seconds() + WORK_AT_ONCE
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if clock.seconds() >= until:
            await deferLater(clock, 0)
            until = clock.seconds() + WORK_AT_ONCE


def _ends(source: str, to: str | None) -> dict[str, Any]:
    place = _PLACE.fullmatch(to) if to is not None else None
    if place is None:
        raise CommandError("submit: to says where the file goes, as 'NAME:PATH': 'archive:in/a.csv', or 'archive:in/'")
    registered = _PLACE.fullmatch(source)
    return {
        "source": {"destination": registered[1], "path": registered[2]} if registered else source,
        "destination": place[1],
        "path": place[2],
    }
