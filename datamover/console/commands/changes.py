"""The commands that change something, as ``jobs.*``, ``destinations.*`` and ``service.*`` do.

Everything goes through the functions that the interface calls, and is recorded under the methods' names.
"""

from datamover.bounds.calls import (
    LARGEST_FILE,
    LONGEST_CHECKSUM,
    LONGEST_LABEL,
    LONGEST_REASON,
    LONGEST_REQUEST_ID,
    MOST_ATTEMPTS,
)
from datamover.console.commands import kinds
from datamover.console.commands.context import CommandContext, CommandError
from datamover.console.commands.jobs import standing
from datamover.console.commands.registry import Commands
from datamover.console.commands.submission import new_job
from datamover.console.tables import Page
from datamover.errors import ConfigError
from datamover.jobs.values import JobRecord
from datamover.requests.files import HEX_DIGITS
from datamover.runtime.reload import Reloaded

COMMANDS = Commands()

_PRIORITY = kinds.number(1, 5, "a whole number from 1 to 5, 5 being first")
_ATTEMPTS = kinds.number(1, MOST_ATTEMPTS, f"a whole number from 1 to {MOST_ATTEMPTS}")
_SIZE = kinds.number(0, LARGEST_FILE, "the file's size in bytes")


@COMMANDS.command(
    "submit('https://data.example.org/a.csv', 'archive:in/')",
    "submit('vis:runs/a.csv', 'archive:a.csv', label='by hand')",
    source=kinds.REQUEST,
    to=kinds.PLACE,
    label=kinds.text("a label in quotes", LONGEST_LABEL),
    overwrite=kinds.OVERWRITE,
    checksum=kinds.text(f"a checksum in quotes, such as 'sha256:3f…' ({', '.join(HEX_DIGITS)})", LONGEST_CHECKSUM),
    size=_SIZE,
    priority=_PRIORITY,
    max_attempts=_ATTEMPTS,
    deadline=kinds.SECONDS,
    request_id=kinds.text("text in quotes that tells this request from others", LONGEST_REQUEST_ID),
)
async def submit(
    context: CommandContext,
    source: str | dict[str, object],
    to: str | None = None,
    *,
    label: str | None = None,
    overwrite: str | None = None,
    checksum: str | None = None,
    size: int | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    deadline: float | None = None,
    request_id: str | None = None,
) -> Page:
    """Have a file moved to a destination"""
    options = {
        "label": label,
        "overwrite": overwrite,
        "checksum": checksum,
        "size": size,
        "priority": priority,
        "max_attempts": max_attempts,
        "deadline": deadline,
        "request_id": request_id,
    }
    told = source if isinstance(source, str) else f"{len(source)} keys"

    async def do() -> tuple[int, bool]:
        with context.service.runtimes.acquire() as runtime:
            asked = await new_job(runtime, context, source, to, options)
        [answer] = await context.service.store.submit([asked])
        return answer.id, answer.created

    number, created = await context.change("jobs.submit", f"{told} {to or ''}".rstrip(), do())
    if not created:
        return [f"job {number} was made for this request_id before; job({number}) shows it"]
    return [f"job {number} is submitted; follow({number}) shows how it goes"]


@COMMANDS.command("cancel(12)", number=kinds.JOB)
async def cancel(context: CommandContext, number: int) -> Page:
    """Give a job up; files in place stay there"""
    found = await context.change("jobs.cancel", str(number), context.service.store.cancel(number))
    if found.state.terminal:
        return _job(found)
    return [f"job {found.id} is being cancelled; follow({found.id}) shows when its files have stopped"]


@COMMANDS.command("pause(12)", number=kinds.JOB)
async def pause(context: CommandContext, number: int) -> Page:
    """Stop a job's files for a while; what arrived is kept"""
    return _job(await context.change("jobs.pause", str(number), context.service.store.pause(number)))


@COMMANDS.command("resume(12)", number=kinds.JOB)
async def resume(context: CommandContext, number: int) -> Page:
    """Go on with a job that is paused or waits to try again"""
    return _job(await context.change("jobs.resume", str(number), context.service.store.resume(number)))


@COMMANDS.command("retry(12)", number=kinds.JOB)
async def retry(context: CommandContext, number: int) -> Page:
    """Try a job's failed files again"""
    return _job(await context.change("jobs.retry", str(number), context.service.store.retry(number)))


@COMMANDS.command("renotify(12)", number=kinds.JOB)
async def renotify(context: CommandContext, number: int) -> Page:
    """Send the notice of a job's end once more"""
    found = await context.change("jobs.renotify", str(number), context.service.store.renotify(number))
    return [f"the notice of job {found.id} is sent again"]


@COMMANDS.command(
    "hold('archive', 'new disks until noon')",
    name=kinds.DESTINATION,
    reason=kinds.text("the reason in quotes", LONGEST_REASON, needed=True),
)
async def hold(context: CommandContext, name: str, reason: str) -> Page:
    """Let nothing new go to or come from a destination"""

    async def do() -> None:
        context.service.runtimes.now.registry.get(name)
        await context.service.store.hold(name, reason)

    await context.change("destinations.hold", f"{name} {reason}", do())
    return [f"{name} is held; release({name!r}) ends that"]


@COMMANDS.command("release('archive')", name=kinds.DESTINATION)
async def release(context: CommandContext, name: str) -> Page:
    """End a hold, or a breaker's pause"""

    async def do() -> None:
        context.service.runtimes.now.registry.get(name)
        await context.service.store.release(name)

    await context.change("destinations.release", name, do())
    return [f"{name} is open"]


@COMMANDS.command("drain()", "drain('host:4321')", node=kinds.NODE)
async def drain(context: CommandContext, node: str | None = None) -> Page:
    """Have every process, or one of them, take nothing new"""
    await context.change("service.drain", node or "", context.service.store.drain(node))
    return [f"{node or 'every process'} takes nothing new; undrain() ends that"]


@COMMANDS.command("undrain()", "undrain('host:4321')", node=kinds.NODE)
async def undrain(context: CommandContext, node: str | None = None) -> Page:
    """Have them take work again"""
    await context.change("service.undrain", node or "", context.service.store.drain(node, draining=False))
    return [f"{node or 'every process'} takes work"]


@COMMANDS.command("reload()")
async def reload(context: CommandContext) -> Page:
    """Read this process's configuration file again"""

    async def do() -> Reloaded:
        return context.service.reload()

    try:
        found = await context.change("service.reload", "", do())
    except ConfigError as error:
        raise CommandError(f"{error.message}; nothing is changed") from None
    page = [f"changed: {', '.join(found.changed) or 'nothing'}"]
    if found.needs_restart:
        page.append(f"these need a restart: {', '.join(found.needs_restart)}")
    return page


def _job(record: JobRecord) -> Page:
    return [f"job {record.id} is {standing(record)}"]
