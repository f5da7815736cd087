"""The commands that show jobs: their list, progress, files, history, and what they wait for."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from datamover.bounds.calls import LARGEST_LIMIT
from datamover.console import columns
from datamover.console.commands import kinds
from datamover.console.commands.context import CommandContext
from datamover.console.commands.registry import Commands
from datamover.console.figures import age, at, duration, rate, size
from datamover.console.tables import Line, Page, Part, Table
from datamover.jobs.values import Event, FileRecord, JobRecord, State
from datamover.text import redaction
from datamover.text.printable import one_line
from datamover.text.quantities import count

COMMANDS = Commands()

JOBS = 20
FILES = 20
EVENTS = 15


@COMMANDS.command(
    "jobs()",
    "jobs('FAILED', since='2h')",
    status=kinds.STATUS,
    owner=kinds.OWNER,
    label=kinds.LABEL,
    destination=kinds.DESTINATION,
    since=kinds.MOMENT,
    until=kinds.MOMENT,
    limit=kinds.LIMIT,
)
async def jobs(
    context: CommandContext,
    status: State | None = None,
    *,
    owner: str | None = None,
    label: str | None = None,
    destination: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = JOBS,
) -> Page:
    """The newest jobs, or those that the arguments name"""
    found = await context.service.newest.jobs(
        owner, state=status, label=label, destination=destination, since=since, until=until, limit=limit
    )
    rows = [
        (
            job.id,
            job.state.value,
            job.owner,
            f"{job.files_completed}/{job.files_total}",
            (job.bytes_done, job.bytes_total),
            job.bytes_done,
            job.rate,
            job.submitted_at,
            (job.error or {}).get("code"),
            job.label,
        )
        for job in found
    ]
    heads = (
        columns.JOB,
        columns.STATUS,
        columns.OWNER,
        columns.FILES,
        columns.PERCENT,
        columns.BYTES,
        columns.RATE,
        columns.AGE,
        columns.ERROR,
        columns.LABEL,
    )
    filters = {
        "of owner {!r}": owner,
        "labelled {!r}": label,
        "for destination {!r}": destination,
        "since {} UTC": since and at(since),
        "until {} UTC": until and at(until),
    }
    which = [phrase.format(value) for phrase, value in filters.items() if value is not None]
    optional = (columns.AGE, columns.OWNER, columns.PERCENT, columns.BYTES, columns.RATE)
    return [Table(heads, rows, f"there is no {_only(status)}job{''.join(f' {each}' for each in which)}", optional)]


@COMMANDS.command("job(12)", number=kinds.JOB)
async def job(context: CommandContext, number: int) -> Page:
    """One job, its files and the end of its history"""
    store = context.service.store
    found = await store.job(number)
    shown = await store.files(number, limit=FILES)
    page: list[Part] = [
        f"job {found.id} of {found.owner}: {standing(found)}" + (f", {one_line(found.stage)}" if found.stage else ""),
        f"asked by {found.method} {age(found.submitted_at)} ago"
        + (f", labelled {found.label!r}" if found.label else ""),
        f"{progress(found)}, {found.files_failed} failed; "
        f"{size(found.bytes_done)} of {size(found.bytes_total)}{_at(found.rate)}",
    ]
    if found.waiting_for:
        page.append(f"waiting for {one_line(found.waiting_for)}")
    page += [f"{which}: {words(error)}" for which, error in _errors(found)]
    page += ["", _files(shown, found.id)]
    if found.files_total > len(shown):
        page.append(f"… and {found.files_total - len(shown)} more: files({number}, limit=…)")
    page += [f"file {file.index}: {file.digest}" for file in shown if file.digest]
    return [*page, "", _history(await context.service.newest.events(job=number, limit=EVENTS), number)]


@COMMANDS.command("files(12)", "files(12, 'FAILED')", number=kinds.JOB, status=kinds.STATUS, limit=kinds.LIMIT)
async def files(context: CommandContext, number: int, status: State | None = None, limit: int = FILES) -> Page:
    """A job's files, or those of one status, and their errors"""
    found = await context.service.store.files(number, state=status, limit=limit)
    return [_files(found, number, status), *(f"file {file.index}: {words(file.error)}" for file in found if file.error)]


@COMMANDS.command("events()", "events(12, limit=50)", number=kinds.JOB, limit=kinds.LIMIT)
async def events(context: CommandContext, number: int | None = None, limit: int = EVENTS) -> Page:
    """What happened last, to all jobs or to one"""
    if number is not None:
        await context.service.store.job(number)
    return [_history(await context.service.newest.events(job=number, limit=limit), number)]


@COMMANDS.command("explain(12)", number=kinds.JOB)
async def explain(context: CommandContext, number: int) -> Page:
    """In words: what a job does, and why it does not do more"""
    store = context.service.store
    found = await store.job(number)
    page = [f"Job {found.id} is {standing(found)}."]
    if found.state.terminal:
        page.append(f"It ended {age(found.finished_at)} ago, with {progress(found)}.")
    elif found.stage:
        left = (found.bytes_total or 0) - found.bytes_done
        page.append(
            f"It is at: {one_line(found.stage)}, attempt {found.attempt}, at {rate(found.rate) or 'no rate yet'}."
        )
        if found.rate and left > 0:
            page.append(f"What is known to be left, {size(left)}, takes {duration(left / found.rate)} at this rate.")
    elif found.waiting_for:
        page.append(f"It waits for {one_line(found.waiting_for)}.")
    if not found.state.terminal:
        page += await _bandwidths(context, number)
        if not any("engine" in node["roles"] for node in await store.nodes()):
            page.append("No engine is alive: start one, or look at the log of the one that should be.")
    page += [f"Its {which} ({error['code']}): {words(error)}." for which, error in _errors(found)]
    if found.state in (State.FAILED, State.PARTIAL):
        page.append(f"retry({found.id}) puts what failed back in the queue.")
    return page


async def _bandwidths(context: CommandContext, number: int) -> list[str]:
    """Return what the destinations of a job's unfinished files may have, and what they have now."""
    store, registry = context.service.store, context.service.runtimes.now.registry
    found = await store.files(number, limit=LARGEST_LIMIT)
    names = sorted({file.destination for file in found if not file.state.terminal})
    limits = {name: limit for name in names if (limit := registry.bandwidth(name)) is not None}
    if not limits:
        return []
    busy = {row["destination"]: row for row in await store.queue()}
    return [
        f"Destination {name} has bandwidth = {rate(limit)}, shared by all transfers to it; "
        f"{busy.get(name, {}).get('active', 0)} move at {rate(busy.get(name, {}).get('rate')) or '0 B/s'} together."
        for name, limit in limits.items()
    ]


def standing(job: JobRecord) -> str:
    """Return a job's status, and whether it is paused."""
    return f"{job.state.value}{', paused' if job.paused else ''}"


def progress(job: JobRecord) -> str:
    return f"{job.files_completed} of {count(job.files_total, 'file')} in place"


def event_line(event: Event) -> Line:
    """Return an event of a known job in one line."""
    told = [columns.AT.show(event.at)]
    told += [f"file {event.file}"] if event.file is not None else []
    return Line("  ".join([*told, event.kind, _details(event)]).rstrip())


def words(error: Mapping[str, Any]) -> str:
    """Return an error as an operator may read it, in one line."""
    return one_line(str(redaction.visible_error(error, administrator=True).get("message", "")))


def _files(found: Sequence[FileRecord], job: int, status: State | None = None) -> Table:
    rows = [
        (
            file.index,
            file.state.value,
            file.attempt,
            (file.bytes_done, file.size),
            file.bytes_done,
            (file.size,),
            file.rate,
            file.source,
            f"{file.destination}:{file.path}",
        )
        for file in found
    ]
    heads = (
        columns.FILE,
        columns.STATUS,
        columns.ATTEMPT,
        columns.PERCENT,
        columns.BYTES,
        columns.SIZE,
        columns.RATE,
        columns.SOURCE,
        columns.TARGET,
    )
    none = f"job {job} has no {_only(status)}file{'' if status else ' yet'}"
    return Table(heads, rows, none, optional=(columns.BYTES, columns.RATE, columns.ATTEMPT))


def _history(found: Sequence[Event], job: int | None) -> Table:
    rows = [(event.at, event.job, event.file, event.kind, _details(event)) for event in found]
    heads = [columns.AT, columns.JOB, columns.FILE, columns.EVENT, columns.DETAILS]
    if job is None:
        return Table(heads, rows, "there are no events")
    return Table([heads[0], *heads[2:]], [(row[0], *row[2:]) for row in rows], f"job {job} has no events yet")


def _only(status: State | None) -> str:
    return "" if status is None else f"{status.value} "


def _details(event: Event) -> str:
    error = event.details.get("error")
    plain = {**event.details, "error": words(error)} if isinstance(error, Mapping) else event.details
    return ", ".join(f"{key} {value}" for key, value in plain.items())


def _errors(found: JobRecord) -> list[tuple[str, Mapping[str, Any]]]:
    first, last = found.first_error, found.error
    if first and last and words(first) == words(last):
        return [("error", last)]
    return [(which, error) for which, error in (("first error", first), ("last error", last)) if error]


def _at(moving: float) -> str:
    return f", {rate(moving)}" if moving else ""
