"""``destinations.*``: the registry, limited to the destinations that a client may use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datamover.api.context import CallContext, Caller
from datamover.api.methods import check
from datamover.api.methods.table import MethodTable
from datamover.api.xmlrpc import parameters, records
from datamover.bounds.calls import LONGEST_REASON
from datamover.errors import Unavailable
from datamover.jobs.endpoints import endpoint_key
from datamover.text import redaction

TABLE = MethodTable()


@TABLE.method("destinations.list", "array")
async def list_destinations(context: CallContext, caller: Caller) -> Any:
    """Describe every destination that the caller may use: destinations.list() -> [struct…].

    Returns an array of what destinations.describe returns.
    Faults: 1001 INVALID_REQUEST.
    Example: destinations.list() -> [{'name': 'archive', 'protocol': 'file', 'max_active': 8}]
    """
    activity = await _activity(context)
    return [_described(context, caller, name, activity) for name in context.registry.names() if caller.may_use(name)]


@TABLE.method("destinations.describe", "struct string")
async def describe(context: CallContext, caller: Caller, name: Any) -> Any:
    """Describe a destination: destinations.describe(name) -> struct.

    name: a destination, as destinations.list names it.
    Returns name, description, protocol, abilities (an array of names), lacks (an array of {ability, message}: the
    abilities that it was found not to have), max_active, active and queued (transfers that run and that wait), held
    (why an administrator holds it), breaker ({failures, until, error}: why and until when nothing is tried there), and
    if room is kept free, keep_free and free (bytes, as last reported). active, queued, held, breaker and free are left
    out while the database is away. The address of a destination and its login are never shown.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1006 NOT_PERMITTED.
    Example: destinations.describe('archive') -> {'name': 'archive', 'protocol': 'file', 'active': 0, 'queued': 0}
    """
    return _described(context, caller, _allowed(context, caller, name), await _activity(context))


@TABLE.method("destinations.test", "struct string", abandoned=True)
async def test(context: CallContext, caller: Caller, name: Any) -> Any:
    """Test a destination with a small file, as a transfer uses it: destinations.test(name) -> {ok, steps, lacks}.

    name: a destination, as destinations.list names it.
    Returns ok, steps (an array of {step, ok, seconds, error?}: connect, authenticate, write, read, replace, delete, up
    to the first that fails), lacks, as in destinations.describe, free (bytes, if the destination reports it), keep_free
    (bytes, if room is kept free), and strays, if there are any (an array of {path, message}: unfinished uploads that no
    transfer continues). The small file is removed.
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
    reason: text of at most 500 characters, which is shown for jobs that wait.
    Returns what destinations.describe returns. Transfers that run go on. Administrators only.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1006 NOT_PERMITTED, 1012 UNAVAILABLE.
    Example: destinations.hold('archive', 'new disks until noon') -> {'name': 'archive', 'held': 'new disks until noon'}
    """
    known = _known(context, name)
    await context.store.hold(known, parameters.text(reason, "reason", LONGEST_REASON))
    return _described(context, caller, known, await _activity(context))


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
    return _described(context, caller, known, await _activity(context))


def _known(context: CallContext, name: Any) -> str:
    return context.registry.get(parameters.text(name, "name")).name


def _allowed(context: CallContext, caller: Caller, name: Any) -> str:
    known = _known(context, name)
    caller.check_destination(known)
    return known


@dataclass(frozen=True, slots=True)
class _Activity:
    """The changing state of destinations: their queues by name, and their holds and breakers by endpoint."""

    queue: Mapping[str, Mapping[str, Any]]
    endpoints: Mapping[str, Mapping[str, Any]]
    free: Mapping[str, int]
    """The free bytes that destinations with ``keep_free`` reported last."""


async def _activity(context: CallContext) -> _Activity | None:
    """Return the activity at all destinations, None if the database is away."""
    try:
        await context.place.take()
        queue = {line["destination"]: line for line in await context.store.queue()}
        endpoints = {endpoint["name"]: endpoint for endpoint in await context.store.endpoints()}
        kept = any(context.registry.get(name).keep_free is not None for name in context.registry.names())
        return _Activity(queue, endpoints, await context.store.free() if kept else {})
    except Unavailable:
        return None


def _described(context: CallContext, caller: Caller, name: str, activity: _Activity | None) -> dict[str, Any]:
    answer = dict(context.registry.describe(name))
    if activity is not None:
        line = activity.queue.get(name, {"active": 0, "pending": 0})
        answer |= {"active": line["active"], "queued": line["pending"]}
        if "keep_free" in answer and name in activity.free:
            answer["free"] = float(activity.free[name])
        endpoint = activity.endpoints.get(endpoint_key(name), {})
        if endpoint.get("held") is not None:
            answer["held"] = endpoint["held"]
        if endpoint.get("closed_until") is not None:
            answer["breaker"] = {
                "failures": endpoint["failures"],
                "until": endpoint["closed_until"],
                "error": redaction.visible_breaker_error(endpoint["error"], administrator=caller.administrator),
            }
    return answer
