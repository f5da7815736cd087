"""``destinations.*``: the registry as clients see it, each the part that is theirs to use."""

from typing import Any

from datamover.api import parameters
from datamover.api.context import Caller, Context
from datamover.api.methods import Table
from datamover.errors import Unavailable

TABLE = Table()


@TABLE.method("destinations.list", "array")
async def list_destinations(context: Context, caller: Caller) -> Any:
    """Tell of every destination that you may use: destinations.list() -> [what destinations.describe tells…]."""
    queue = await _queue(context)
    return [_described(context, name, queue) for name in context.registry.names() if caller.may_use(name)]


@TABLE.method("destinations.describe", "struct string")
async def describe(context: Context, caller: Caller, name: Any) -> Any:
    """Tell of a destination: destinations.describe(name) -> {name, description, protocol, abilities, max_active, …}.

    active and queued, the transfers running and waiting, are left out while the database is away.
    """
    _allowed(context, caller, name)
    return _described(context, name, await _queue(context))


@TABLE.method("destinations.test", "struct string", abandoned=True)
async def test(context: Context, caller: Caller, name: Any) -> Any:
    """Try a destination as a transfer would use it: destinations.test(name) -> {ok, steps}.

    steps: [{step, ok, seconds, error?}…], of connect, authenticate, write, read, replace and delete. What was written
    for it is removed.
    """
    _allowed(context, caller, name)
    return await context.registry.test(name)


def _allowed(context: Context, caller: Caller, name: Any) -> None:
    context.registry.get(parameters.text(name, "name"))
    caller.check_destination(name)


async def _queue(context: Context) -> dict[str, Any] | None:
    try:
        return {line["destination"]: line for line in await context.store.queue()}
    except Unavailable:
        return None


def _described(context: Context, name: str, queue: dict[str, Any] | None) -> dict[str, Any]:
    told = dict(context.registry.describe(name))
    if queue is not None:
        line = queue.get(name, {"active": 0, "pending": 0})
        told |= {"active": line["active"], "queued": line["pending"]}
    return told
