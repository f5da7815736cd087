"""The commands that show the service itself: its processes, its configuration, its log, its audit trail."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from datamover import __version__
from datamover.audit.trail import masked
from datamover.console import columns
from datamover.console.commands import kinds
from datamover.console.commands.context import CommandContext, CommandError
from datamover.console.commands.places import queues
from datamover.console.commands.registry import Commands
from datamover.console.figures import rate
from datamover.console.tables import Page, Part, Table
from datamover.text.printable import one_line
from datamover.text.quantities import count

COMMANDS = Commands()

ENTRIES = 20
IDS_RUN_OUT = 0.9
"""The share of the job ids at which the warning begins."""
WITHHELD = "(withheld)"
_SECRET = re.compile(r"password|passphrase|secret|token|hash|key")
"""Keys whose values are withheld, but for those of files."""


@COMMANDS.command("nodes()")
async def nodes(context: CommandContext) -> Page:
    """The processes that are alive"""
    rows = [
        (
            node["name"],
            ", ".join(sorted(node["roles"])),
            node["active"],
            node["heartbeat_at"],
            "draining" if node["draining"] else "open",
        )
        for node in await context.service.store.nodes()
    ]
    heads = (columns.NODE, columns.ROLES, columns.ACTIVE, columns.SEEN, columns.STATE)
    return [Table(heads, rows, "no process has told the database lately that it is alive", (columns.ROLES,))]


@COMMANDS.command("service()")
async def service(context: CommandContext) -> Page:
    """Whether it is ready, what moves and waits, its log level"""
    store, level = context.service.store, context.service.log_level.level
    page: list[Part] = [f"datamover {__version__}: {await context.service.ready()}"]
    page.append(f"configuration: {context.service.runtimes.now.settings.path or 'built in'}; config() shows it")
    page.append(f"log level: {level or 'decided by whoever started the process'}")
    if not store.ready:
        return [*page, "the database is away: what waits and moves is not known"]
    queue, used = await store.queue(), await store.ids_used()
    alive = len(await store.nodes())
    page.append(
        f"{count(alive, 'process', 'processes')} alive; "
        f"{count(sum(row['active'] for row in queue), 'transfer')} moving at {rate(await store.rate()) or '0 B/s'}, "
        f"{sum(row['pending'] for row in queue)} wait"
    )
    if used >= IDS_RUN_OUT:
        page.append(f"{used:.0%} of the job ids are used up: ids end at 2147483647")
    if queue:
        page += ["", queues(queue)]
    return page


@COMMANDS.command("config()", "config('limits')", section=kinds.SECTION)
async def config(context: CommandContext, section: str | None = None) -> Page:
    """The configuration in force; secrets are withheld"""
    settings = context.service.runtimes.now.settings
    lines = [f"# {settings.path or 'the built-in configuration'}"] if section is None else []
    for name in type(settings).model_fields:
        if name != "path" and section in (None, name):
            lines += section_lines(name, getattr(settings, name))
    return ["\n".join(lines)]


@COMMANDS.command("log()", "log('debug')", level=kinds.LEVEL)
async def log(context: CommandContext, level: str | None = None) -> Page:
    """The level of this process's log, or set it"""
    levels = context.service.log_level
    if levels.level is None:
        raise CommandError(
            "this process was started with a way to log of its own (--logger or --syslog): it has no level"
        )
    if level is None:
        return [f"the log has lines from level {levels.level} on; log('debug') changes that until the next start"]

    async def do() -> None:
        levels.set(level)

    await context.change("service.log", level, do())
    return [f"the log has lines from level {level} on, until the next start"]


@COMMANDS.command("audit()", "audit(100, logins=True)", limit=kinds.LIMIT, logins=kinds.FLAG)
async def audit(context: CommandContext, limit: int = ENTRIES, *, logins: bool = False) -> Page:
    """Who did what; logins only with logins=True"""
    rows = [
        (each.at, event.who, event.origin, event.action, event.subject, event.outcome)
        for each in await context.service.audit.store.newest(limit, logins=logins)
        for event in [each.event]
    ]
    heads = (columns.AT, columns.WHO, columns.ORIGIN, columns.ACTION, columns.SUBJECT, columns.OUTCOME)
    none = "the audit trail has no entry" + ("" if logins else " but logins, which audit(logins=True) shows")
    return [Table(heads, rows, none, (columns.ORIGIN,))]


def section_lines(name: str, value: Any) -> Iterator[str]:
    """Yield a section as a configuration file has it."""
    if isinstance(value, BaseModel):
        fields = {key: getattr(value, key) for key in type(value).model_fields} | (value.model_extra or {})
        value = fields
    if isinstance(value, Mapping):
        plain = {key: each for key, each in value.items() if not _is_table(each)}
        if plain or not value:
            yield f"[{name}]"
        for key, each in plain.items():
            if each is not None:
                yield f"{key} = {_value(key, each)}"
        for key, each in value.items():
            if _is_table(each):
                yield from section_lines(f"{name}.{key}", each)
    elif isinstance(value, tuple):
        for each in value:
            yield from section_lines(f"[{name}]", each)


def _is_table(value: Any) -> bool:
    tables = isinstance(value, tuple) and value and all(isinstance(each, BaseModel) for each in value)
    return isinstance(value, BaseModel | Mapping) or bool(tables)


def _value(key: str, value: Any) -> str:
    if _SECRET.search(key) and not key.endswith("_file"):
        return WITHHELD
    if isinstance(value, tuple | list | set | frozenset):
        several = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return f"[{', '.join(_value(key, each) for each in several)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and key.endswith("_mode"):
        return f'"{value:04o}"'
    if isinstance(value, int | float):
        return str(value)
    return '"' + masked(one_line(str(value))) + '"'
