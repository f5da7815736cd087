"""``service.*``: the state of the service, draining, reloading and the audit trail."""

from dataclasses import asdict
from typing import Any

from twisted.internet import defer

from datamover import __version__
from datamover.api.context import CallContext, Caller
from datamover.api.methods.table import MethodTable
from datamover.api.xmlrpc import parameters
from datamover.errors import ConfigError, InvalidRequest, Unavailable

TABLE = MethodTable()

STATUS_SECONDS = 2.0
"""How long ``service.status`` waits for the database."""
IDS_RUN_OUT = 0.9
"""The used part of all job ids from which on ``service.status`` warns."""

NODE = ("name", "roles", "heartbeat_at", "active", "draining")
LINE = ("destination", "pending", "active")


@TABLE.method("service.status", "struct")
async def status(context: CallContext, caller: Caller) -> Any:
    """Return the state of the service: service.status() -> {version, nodes, queue, rate, ready, warnings?}.

    Returns version, nodes (an array of {name, roles, heartbeat_at, active, draining}: the processes on this database),
    queue (an array of {destination, pending, active}, of the destinations that the caller may use), rate (bytes a
    second over all nodes), ready (false while the database is away: nodes and queue are then empty), warnings (an array
    of sentences). It answers within two seconds, whatever the database does.
    Faults: 1001 INVALID_REQUEST.
    Example: service.status() -> {'version': '0.1.0', 'nodes': [], 'queue': [], 'rate': 0.0, 'ready': True}
    """
    answer: dict[str, Any] = {"version": __version__, "nodes": [], "queue": [], "rate": 0.0, "ready": False}
    if not context.store.ready:
        return answer
    reading = defer.Deferred.fromCoroutine(_read_status(context, caller))
    try:
        return answer | await reading.addTimeout(STATUS_SECONDS, context.reactor)
    except (Unavailable, defer.TimeoutError):
        return answer


async def _read_status(context: CallContext, caller: Caller) -> dict[str, Any]:
    """Return the part of the answer that the database has; raises Unavailable."""
    await context.place.take()
    used = await context.store.ids_used()
    answer = {
        "nodes": [_only(node, NODE) for node in await context.store.nodes()],
        "queue": [_only(line, LINE) for line in await context.store.queue() if caller.may_use(line["destination"])],
        "rate": float(await context.store.rate()),
        "ready": True,
    }
    if used >= IDS_RUN_OUT:
        answer["warnings"] = [f"{used:.0%} of the job ids are used up: ids end at 2147483647"]
    return answer


@TABLE.method("service.drain", "boolean", "boolean string", administrator=True, audited=True)
async def drain(context: CallContext, caller: Caller, node: Any = None) -> Any:
    """Have the processes that run now start no new transfer: service.drain(node) -> true.

    node: the name of one process, as service.status names it; all, if it is left out.
    Returns true. Running transfers go on to their end; processes that are started afterwards work as usual.
    Administrators only.
    Faults: 1001 INVALID_REQUEST (no such process), 1006 NOT_PERMITTED, 1012 UNAVAILABLE.
    Example: service.drain('mover-1.example.org:4321') -> True
    """
    await context.store.drain(None if node is None else parameters.text(node, "node"))
    return True


@TABLE.method("service.undrain", "boolean", "boolean string", administrator=True, audited=True)
async def undrain(context: CallContext, caller: Caller, node: Any = None) -> Any:
    """Have processes that drain start transfers again: service.undrain(node) -> true.

    node: the name of one process, as service.status names it; all, if it is left out.
    Returns true. Administrators only.
    Faults: 1001 INVALID_REQUEST (no such process), 1006 NOT_PERMITTED, 1012 UNAVAILABLE.
    Example: service.undrain() -> True
    """
    await context.store.drain(None if node is None else parameters.text(node, "node"), draining=False)
    return True


@TABLE.method("service.reload", "struct", administrator=True, audited=True)
async def reload(context: CallContext, caller: Caller) -> Any:
    """Read the configuration file again, in the process that answers: service.reload() -> {changed, needs_restart}.

    Returns changed, an array of the keys that are in force now, and needs_restart, of those that need a restart; a key
    is written "limits.queued". Administrators only.
    Faults: 1001 INVALID_REQUEST (a file that cannot be used: nothing has changed), 1006 NOT_PERMITTED.
    Example: service.reload() -> {'changed': ['limits.queued'], 'needs_restart': ['service.listen']}
    """
    try:
        found = context.reload()
    except ConfigError as error:
        raise InvalidRequest(error.message) from None
    return {"changed": list(found.changed), "needs_restart": list(found.needs_restart)}


@TABLE.method("service.audit", "struct", "struct struct", administrator=True)
async def audit(context: CallContext, caller: Caller, options: Any = None) -> Any:
    """Return who did what, in order: service.audit(options) -> {entries, cursor}.

    options: may be left out; {after?: a cursor, default the beginning, limit?: entries to return, 1 to 1,000, default
    100}.
    Returns entries, an array of {cursor, at, who, origin, action, subject, outcome}, and cursor: given as after, the
    next call goes on. Administrators only.
    Faults: 1001 INVALID_REQUEST, 1006 NOT_PERMITTED, 1012 UNAVAILABLE, 1013 REQUEST_TOO_LARGE (ask for fewer by limit).
    Example: service.audit({'after': '4', 'limit': 1})
    -> {'entries': [{'cursor': '5', 'at': '2026-11-24T03:10:02Z', 'who': 'boss', 'origin': '127.0.0.1', 'action':
    'destinations.hold', 'subject': 'archive new disks', 'outcome': 'ok'}], 'cursor': '5'}
    """
    table = parameters.options(options, "after", "limit")
    after = parameters.cursor(table, "after")
    found = await context.audit.store.read(after=after, limit=parameters.limit(table))
    return {
        "entries": [{"cursor": str(each.cursor), "at": each.at, **asdict(each.event)} for each in found],
        "cursor": str(found[-1].cursor if found else after),
    }


def _only(row: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: row[key] for key in keys}
