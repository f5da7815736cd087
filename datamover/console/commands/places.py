"""The commands that show and test destinations, and show the transfers that run."""

from collections.abc import Mapping, Sequence
from typing import Any

from datamover.bounds.console import DESTINATIONS_TRIED
from datamover.console import columns
from datamover.console.commands import kinds
from datamover.console.commands.context import CommandContext
from datamover.console.commands.registry import Commands
from datamover.console.tables import Page, Table
from datamover.jobs.endpoints import endpoint_key
from datamover.protocols.base import UNCONNECTED
from datamover.registry.destinations import Destination
from datamover.registry.strays import with_strays
from datamover.text.printable import one_line
from datamover.text.quantities import size

COMMANDS = Commands()

TRANSFERS = 100


@COMMANDS.command("transfers()", limit=kinds.LIMIT)
async def transfers(context: CommandContext, limit: int = TRANSFERS) -> Page:
    """What moves at this moment"""
    return [moving(await context.service.store.active(limit))]


@COMMANDS.command("destinations()")
async def destinations(context: CommandContext) -> Page:
    """The registered destinations, and how busy they are"""
    store, registry = context.service.store, context.service.runtimes.now.registry
    queue = {row["destination"]: row for row in await store.queue()}
    endpoints = {row["name"]: row for row in await store.endpoints()}
    described = [registry.describe(name) for name in registry.names()]
    rows = [
        (
            told["name"],
            told["protocol"],
            f"{queue.get(told['name'], {}).get('active', 0)}/{told['max_active']}",
            queue.get(told["name"], {}).get("pending", 0),
            queue.get(told["name"], {}).get("rate"),
            registry.bandwidth(told["name"]),
            _state(endpoints.get(endpoint_key(told["name"]), {})),
            told["description"],
        )
        for told in described
    ]
    heads = (
        columns.DESTINATION,
        columns.PROTOCOL,
        columns.ACTIVE,
        columns.QUEUED,
        columns.RATE,
        columns.LIMIT,
        columns.STATE,
        columns.DESCRIPTION,
    )
    lacks = [line for name in registry.names() for line in lacks_of(registry.get(name))]
    free = await store.free()
    kept = [_kept(told, free.get(told["name"])) for told in described if "keep_free" in told]
    optional = (columns.PROTOCOL, columns.LIMIT, columns.DESCRIPTION)
    return [Table(heads, rows, "no destination is registered", optional), *kept, *lacks]


@COMMANDS.command("test('archive')", name=kinds.DESTINATION)
async def test(context: CommandContext, name: str) -> Page:
    """Try a destination as a transfer would use it"""
    with context.service.runtimes.acquire() as runtime:
        runtime.registry.get(name)
        async with runtime.looks.held("console", DESTINATIONS_TRIED):
            found = await with_strays(context.service.store, name, await runtime.registry.test(name))
    rows = [
        (step["step"], "ok" if step["ok"] else step["error"]["code"], step["seconds"], _message(step))
        for step in found["steps"]
    ]
    heads = (columns.STEP, columns.OUTCOME, columns.SECONDS, columns.MESSAGE)
    failed = [f"{step['step']}: {_message(step)}" for step in found["steps"] if not step["ok"]]
    lacks = [f"{name}: {one_line(lack['message'])}" for lack in found["lacks"]]
    strays = [f"{name}: {one_line(stray['message'])}" for stray in found.get("strays", ())]
    room = [_kept({"name": name, **found}, found.get("free"))] if "keep_free" in found else []
    end = f"{name} does what a transfer needs" if found["ok"] else f"{name} cannot be used as it is"
    return [Table(heads, rows, "nothing was tried"), *failed, *room, *lacks, *strays, end]


def queues(queue: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of what moves and waits, by destination."""
    rows = [(row["destination"], row["active"], row["pending"], row["rate"]) for row in queue]
    heads = (columns.DESTINATION, columns.ACTIVE, columns.QUEUED, columns.RATE)
    return Table(heads, rows, "nothing moves or waits")


def moving(active: list[dict[str, Any]]) -> Table:
    """Return a table of transfers that are worked on."""
    rows = [
        (
            row["job"],
            row["index"],
            row["stage"] or row["state"],
            (row["bytes_done"], row["size"]),
            row["bytes_done"],
            (row["size"],),
            row["rate"],
            row["attempt"],
            row["node"],
            row["source"],
            f"{row['destination']}:{row['path']}",
        )
        for row in active
    ]
    heads = (
        columns.JOB,
        columns.FILE,
        columns.STAGE,
        columns.PERCENT,
        columns.BYTES,
        columns.SIZE,
        columns.RATE,
        columns.ATTEMPT,
        columns.NODE,
        columns.SOURCE,
        columns.TARGET,
    )
    return Table(
        heads, rows, "no transfer moves at this moment", (columns.BYTES, columns.RATE, columns.ATTEMPT, columns.NODE)
    )


def lacks_of(destination: Destination) -> list[str]:
    """Return a line for each thing that a destination does not do, and one if that is not known yet."""
    sentences = [UNCONNECTED if lack.why == UNCONNECTED else lack.sentence for lack in destination.lacks]
    return [f"{destination.name}: {one_line(each)}" for each in dict.fromkeys(sentences)]


def _kept(told: dict[str, Any], free: float | None) -> str:
    known = "" if free is None else f", {size(free)} are free"
    return f"{told['name']}: {size(told['keep_free'])} stay free (keep_free){known}"


def _state(side: dict[str, Any]) -> str:
    if side.get("held") is not None:
        return f"held: {side['held']}"
    if side.get("closed_until") is not None:
        code = (side["error"] or {}).get("code", "failing")
        return f"closed: {code}"
    return "open"


def _message(step: dict[str, Any]) -> str | None:
    error = step.get("error")
    return None if error is None else one_line(str(error.get("full", error["message"])))
