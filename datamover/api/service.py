"""``service.*``: datamover itself."""

from typing import Any

from datamover import __version__
from datamover.api.context import Caller, Context
from datamover.api.methods import Table
from datamover.errors import Unavailable

TABLE = Table()

IDS_RUN_OUT = 0.9
"""The share of the job ids at which the warning begins."""

NODE = ("name", "roles", "heartbeat_at", "active")
LINE = ("destination", "pending", "active")


@TABLE.method("service.status", "struct")
async def status(context: Context, caller: Caller) -> Any:
    """Tell how the service is: service.status() -> {version, nodes, queue, rate, ready, warnings?}.

    nodes: [{name, roles, heartbeat_at, active}…]; queue: [{destination, pending, active}…]; rate: bytes a second over
    all nodes; ready is false while the database is away, and then the others are empty.
    """
    told: dict[str, Any] = {"version": __version__, "nodes": [], "queue": [], "rate": 0.0, "ready": False}
    if not context.store.ready:
        return told
    try:
        used = await context.store.ids_used()
        told |= {
            "nodes": [_only(node, NODE) for node in await context.store.nodes()],
            "queue": [_only(line, LINE) for line in await context.store.queue() if caller.may_use(line["destination"])],
            "rate": float(await context.store.rate()),
            "ready": True,
        }
    except Unavailable:
        return told
    if used >= IDS_RUN_OUT:
        told["warnings"] = [f"{used:.0%} of the job ids are used up: ids end at 2147483647"]
    return told


@TABLE.method("service.drain", "boolean", administrator=True)
async def drain(context: Context, caller: Caller) -> Any:
    """Have every process that runs now take nothing new: service.drain() -> true. Administrators only.

    Running transfers go on to their end; processes that are started afterwards take work as ever.
    """
    await context.store.drain()
    return True


def _only(row: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: row[key] for key in keys}
