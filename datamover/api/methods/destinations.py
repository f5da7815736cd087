"""``destinations.*``: the registry, limited to the destinations that a client may use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datamover.api.context import Caller, Context
from datamover.api.methods import check
from datamover.api.methods.table import Table
from datamover.api.xmlrpc import parameters, records
from datamover.errors import Unavailable
from datamover.jobs.endpoints import endpoint_key
from datamover.text import redaction
from datamover.text.bounds import LONGEST_REASON

TABLE = Table()


@TABLE.method("destinations.list", "array")
async def list_destinations(context: Context, caller: Caller) -> Any:
    """Tell of every destination that you may use: destinations.list() -> [what destinations.describe tells…]."""
    busy = await _busy(context)
    return [_described(context, caller, name, busy) for name in context.registry.names() if caller.may_use(name)]


@TABLE.method("destinations.describe", "struct string")
async def describe(context: Context, caller: Caller, name: Any) -> Any:
    """Tell of a destination: destinations.describe(name) -> {name, description, protocol, abilities, lacks, …}.

    lacks is what it was found not to do, [{ability, message}…].
    active and queued are the transfers running and waiting; held is why an administrator holds it, breaker why and
    until when nothing is tried there, {failures, until, error}. They are left out while the database is away.
    """
    return _described(context, caller, _allowed(context, caller, name), await _busy(context))


@TABLE.method("destinations.test", "struct string", abandoned=True)
async def test(context: Context, caller: Caller, name: Any) -> Any:
    """Try a destination as a transfer would use it: destinations.test(name) -> {ok, steps, lacks}.

    steps: [{step, ok, seconds, error?}…], of connect, authenticate, write, read, replace and delete. What was written
    for it is removed. lacks is what describe then tells.
    """
    found = await check.test(context, caller, _allowed(context, caller, name))
    return records.tested(found, administrator=caller.administrator)


@TABLE.method("destinations.hold", "struct string string", administrator=True, audited=True)
async def hold(context: Context, caller: Caller, name: Any, reason: Any) -> Any:
    """Let nothing new go to or come from a destination: destinations.hold(name, reason) -> what describe tells.

    What runs goes on; what waits says the reason. Administrators only.
    """
    known = _known(context, name)
    await context.store.hold(known, parameters.text(reason, "reason", LONGEST_REASON))
    return _described(context, caller, known, await _busy(context))


@TABLE.method("destinations.release", "struct string", administrator=True, audited=True)
async def release(context: Context, caller: Caller, name: Any) -> Any:
    """End a hold, or a breaker's pause: destinations.release(name) -> what describe tells. Administrators only."""
    known = _known(context, name)
    await context.store.release(known)
    return _described(context, caller, known, await _busy(context))


def _known(context: Context, name: Any) -> str:
    return context.registry.get(parameters.text(name, "name")).name


def _allowed(context: Context, caller: Caller, name: Any) -> str:
    known = _known(context, name)
    caller.check_destination(known)
    return known


@dataclass(frozen=True, slots=True)
class _Busy:
    """The changing state of destinations: their queues by name, and their holds and breakers by endpoint."""

    queue: Mapping[str, Mapping[str, Any]]
    sides: Mapping[str, Mapping[str, Any]]


async def _busy(context: Context) -> _Busy | None:
    try:
        queue = {line["destination"]: line for line in await context.store.queue()}
        return _Busy(queue, {side["name"]: side for side in await context.store.sides()})
    except Unavailable:
        return None


def _described(context: Context, caller: Caller, name: str, busy: _Busy | None) -> dict[str, Any]:
    answer = dict(context.registry.describe(name))
    if busy is not None:
        line = busy.queue.get(name, {"active": 0, "pending": 0})
        answer |= {"active": line["active"], "queued": line["pending"]}
        side = busy.sides.get(endpoint_key(name), {})
        if side.get("held") is not None:
            answer["held"] = side["held"]
        if side.get("closed_until") is not None:
            answer["breaker"] = {
                "failures": side["failures"],
                "until": side["closed_until"],
                "error": redaction.visible_breaker_error(side["error"], administrator=caller.administrator),
            }
    return answer
