"""``destinations.*``: the registry, limited to the destinations that a client may use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datamover.api.context import CallContext, Caller
from datamover.api.methods import check
from datamover.api.methods.table import MethodTable
from datamover.api.xmlrpc import parameters, records
from datamover.errors import Unavailable
from datamover.jobs.endpoints import endpoint_key
from datamover.text import redaction
from datamover.text.bounds import LONGEST_REASON

TABLE = MethodTable()


@TABLE.method("destinations.list", "array")
async def list_destinations(context: CallContext, caller: Caller) -> Any:
    """Tell of every destination that the caller may use: destinations.list() -> [struct…].

    Returns an array of what destinations.describe returns.
    Faults: 1001 INVALID_REQUEST.
    Example: destinations.list() -> [{'name': 'archive', 'protocol': 'file', 'max_active': 8}]
    """
    busy = await _busy(context)
    return [_described(context, caller, name, busy) for name in context.registry.names() if caller.may_use(name)]


@TABLE.method("destinations.describe", "struct string")
async def describe(context: CallContext, caller: Caller, name: Any) -> Any:
    """Tell of a destination: destinations.describe(name) -> struct.

    name: a destination, as destinations.list names it.
    Returns name, description, protocol, abilities (an array of names), lacks (an array of {ability, message}: what it
    was found not to do), max_active, active and queued (transfers that run and that wait), held (why an administrator
    holds it), breaker ({failures, until, error}: why and until when nothing is tried there); where room is kept free,
    keep_free and free (bytes; what the place told last). active, queued, held, breaker and free are left out while the
    database is away. Where the destination is, and its login, are never told.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1006 NOT_PERMITTED.
    Example: destinations.describe('archive') -> {'name': 'archive', 'protocol': 'file', 'active': 0, 'queued': 0}
    """
    return _described(context, caller, _allowed(context, caller, name), await _busy(context))


@TABLE.method("destinations.test", "struct string", abandoned=True)
async def test(context: CallContext, caller: Caller, name: Any) -> Any:
    """Try a destination with a small file, as a transfer uses it: destinations.test(name) -> {ok, steps, lacks}.

    name: a destination, as destinations.list names it.
    Returns ok, steps (an array of {step, ok, seconds, error?}: connect, authenticate, write, read, replace, delete, up
    to the first that fails), lacks, as destinations.describe then tells it, free and keep_free (bytes), where the place
    tells its room and where room is kept free, and, where there are any, strays (an array of {path, message}: uploads
    in parts that stand there and that no transfer goes on with). The small file is removed.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1006 NOT_PERMITTED.
    Example: destinations.test('archive')
    -> {'ok': True, 'steps': [{'step': 'connect', 'ok': True, 'seconds': 0.002}], 'lacks': []}
    """
    found = await check.test(context, caller, _allowed(context, caller, name))
    return records.tested(found, administrator=caller.administrator)


@TABLE.method("destinations.hold", "struct string string", administrator=True, audited=True)
async def hold(context: CallContext, caller: Caller, name: Any, reason: Any) -> Any:
    """Start nothing new to or from a destination until destinations.release: destinations.hold(name, reason) -> struct.

    name: a destination, as destinations.list names it.
    reason: text of at most 500 characters; jobs that wait tell it.
    Returns what destinations.describe returns. Transfers that run go on. Administrators only.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1006 NOT_PERMITTED, 1012 UNAVAILABLE.
    Example: destinations.hold('archive', 'new disks until noon') -> {'name': 'archive', 'held': 'new disks until noon'}
    """
    known = _known(context, name)
    await context.store.hold(known, parameters.text(reason, "reason", LONGEST_REASON))
    return _described(context, caller, known, await _busy(context))


@TABLE.method("destinations.release", "struct string", administrator=True, audited=True)
async def release(context: CallContext, caller: Caller, name: Any) -> Any:
    """End a hold, and a breaker's pause: destinations.release(name) -> struct.

    name: a destination, as destinations.list names it.
    Returns what destinations.describe returns. Administrators only.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1006 NOT_PERMITTED, 1012 UNAVAILABLE.
    Example: destinations.release('archive') -> {'name': 'archive', 'active': 0, 'queued': 3}
    """
    known = _known(context, name)
    await context.store.release(known)
    return _described(context, caller, known, await _busy(context))


def _known(context: CallContext, name: Any) -> str:
    return context.registry.get(parameters.text(name, "name")).name


def _allowed(context: CallContext, caller: Caller, name: Any) -> str:
    known = _known(context, name)
    caller.check_destination(known)
    return known


@dataclass(frozen=True, slots=True)
class _Busy:
    """The changing state of destinations: their queues by name, and their holds and breakers by endpoint."""

    queue: Mapping[str, Mapping[str, Any]]
    sides: Mapping[str, Mapping[str, Any]]
    free: Mapping[str, int]
    """What destinations that keep room free told last, in bytes."""


async def _busy(context: CallContext) -> _Busy | None:
    try:
        await context.place.take()
        queue = {line["destination"]: line for line in await context.store.queue()}
        sides = {side["name"]: side for side in await context.store.endpoints()}
        kept = any(context.registry.get(name).keep_free is not None for name in context.registry.names())
        return _Busy(queue, sides, await context.store.free() if kept else {})
    except Unavailable:
        return None


def _described(context: CallContext, caller: Caller, name: str, busy: _Busy | None) -> dict[str, Any]:
    answer = dict(context.registry.describe(name))
    if busy is not None:
        line = busy.queue.get(name, {"active": 0, "pending": 0})
        answer |= {"active": line["active"], "queued": line["pending"]}
        if "keep_free" in answer and name in busy.free:
            answer["free"] = float(busy.free[name])
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
