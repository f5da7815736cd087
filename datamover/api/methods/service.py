"""``service.*``: the state of the service, draining, reloading and the audit trail."""

from dataclasses import asdict
from typing import Any

from twisted.internet import defer

from datamover import __version__
from datamover.api.context import Caller, Context
from datamover.api.methods.table import Table
from datamover.api.xmlrpc import parameters
from datamover.errors import ConfigError, InvalidRequest, Unavailable

TABLE = Table()

STATUS_SECONDS = 2.0
"""How long ``service.status`` waits for the database."""
IDS_RUN_OUT = 0.9
"""The used part of all job ids from which on ``service.status`` warns."""

NODE = ("name", "roles", "heartbeat_at", "active", "draining")
LINE = ("destination", "pending", "active")


@TABLE.method("service.status", "struct")
async def status(context: Context, caller: Caller) -> Any:
    """Tell how the service is: service.status() -> {version, nodes, queue, rate, ready, warnings?}.

    nodes: [{name, roles, heartbeat_at, active, draining}…]; queue: [{destination, pending, active}…]; rate: bytes a
    second over all nodes; ready is false while the database is away, and then the others are empty. It is answered at
    once: never after more than two seconds.
    """
    answer: dict[str, Any] = {"version": __version__, "nodes": [], "queue": [], "rate": 0.0, "ready": False}
    if not context.store.ready:
        return answer
    reading = defer.Deferred.fromCoroutine(_read_status(context, caller))
    try:
        return answer | await reading.addTimeout(STATUS_SECONDS, context.reactor)
    except (Unavailable, defer.TimeoutError):
        return answer


async def _read_status(context: Context, caller: Caller) -> dict[str, Any]:
    """Return what the database tells of the service; raises Unavailable."""
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
async def drain(context: Context, caller: Caller, node: Any = None) -> Any:
    """Have every process that runs now take nothing new, or one of them: service.drain(node) -> true.

    node is a name that service.status tells. Running transfers go on to their end; processes that are started
    afterwards take work as ever. Administrators only.
    """
    await context.store.drain(None if node is None else parameters.text(node, "node"))
    return True


@TABLE.method("service.undrain", "boolean", "boolean string", administrator=True, audited=True)
async def undrain(context: Context, caller: Caller, node: Any = None) -> Any:
    """Have processes that drain take work again, or one of them: service.undrain(node) -> true. Administrators only."""
    await context.store.drain(None if node is None else parameters.text(node, "node"), draining=False)
    return True


@TABLE.method("service.reload", "struct", administrator=True, audited=True)
async def reload(context: Context, caller: Caller) -> Any:
    """Read the configuration file again, in this process: service.reload() -> {changed, needs_restart}.

    Both are keys, such as "limits.queued". A file that cannot be used is refused, and changes nothing. Administrators
    only.
    """
    try:
        found = context.reload()
    except ConfigError as error:
        raise InvalidRequest(error.message) from None
    return {"changed": list(found.changed), "needs_restart": list(found.needs_restart)}


@TABLE.method("service.audit", "struct", "struct struct", administrator=True)
async def audit(context: Context, caller: Caller, options: Any = None) -> Any:
    """Tell who did what: service.audit({after?, limit?}) -> {entries: [{cursor, at, who, origin, action, …}…], cursor}.

    The append-only trail after a cursor; with the cursor that it returns the next call goes on. limit is 100 where it
    is not given, 1,000 at most. Administrators only.
    """
    table = parameters.options(options, "after", "limit")
    after = parameters.cursor(table, "after")
    found = await context.audit.store.read(after=after, limit=parameters.limit(table))
    return {
        "entries": [{"cursor": str(each.cursor), "at": each.at, **asdict(each.deed)} for each in found],
        "cursor": str(found[-1].cursor if found else after),
    }


def _only(row: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: row[key] for key in keys}
