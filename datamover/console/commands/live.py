"""The commands that go on until they are stopped: what moves, redrawn each second, and the events of one job."""

from datetime import UTC, datetime

from twisted.internet.task import deferLater

from datamover.console.commands import kinds
from datamover.console.commands.context import CommandContext
from datamover.console.commands.jobs import event_line, progress, standing, words
from datamover.console.commands.places import TRANSFERS, moving, queues
from datamover.console.commands.registry import Commands, Live
from datamover.console.figures import rate
from datamover.console.tables import Line, Page, Part
from datamover.console.visitor import View
from datamover.errors import Unavailable
from datamover.jobs.values import JobRecord
from datamover.text.quantities import count

COMMANDS = Commands()

EACH = 1.0
"""Seconds between two pictures."""
PATIENCE = 10.0
"""Seconds that one look waits for events."""
BEFORE = 10
"""Earlier events that are shown first, at most."""
ENDS = "q or Ctrl-C ends this"
HEADER = 6
"""Lines of a picture that are no rows."""


@COMMANDS.command("top()")
async def top(context: CommandContext) -> Live:
    """What moves and what waits, redrawn each second until q"""

    async def run(view: View) -> None:
        if not view.screen.addressable:
            view.show(await _picture(context, TRANSFERS))
            return
        while True:
            view.redraw(await _picture(context, max(1, (view.screen.height or 24) - HEADER), ENDS))
            await deferLater(context.service.clock, EACH)

    return run


@COMMANDS.command("follow(12)", number=kinds.JOB)
async def follow(context: CommandContext, number: int) -> Live:
    """What happens to a job, as it happens, until it ends or q"""
    store = context.service.store
    first = await store.job(number)

    async def run(view: View) -> None:
        found, job = await context.service.newest.events(job=number, limit=BEFORE), first
        if not job.state.terminal and view.screen.width is not None:
            view.show([f"following job {number}, {standing(job)}: {ENDS}"])
        after = 0
        while True:
            if found:
                view.show([event_line(event) for event in found])
                after = found[-1].cursor
            if job.state.terminal:
                # The last events may have been stored after the last look.
                if rest := await store.events(job=number, after=after):
                    view.show([event_line(event) for event in rest])
                view.show(_end(job))
                return
            found = await store.events(job=number, after=after, timeout=PATIENCE)
            job = await store.job(number)

    return run


async def _picture(context: CommandContext, rows: int, *below: str) -> Page:
    """Return what moves and waits, in no more rows than there is room for, with lines below the first."""
    store = context.service.store
    now = f"{datetime.now(UTC):%H:%M:%S} UTC"
    try:
        queue, nodes, active = await store.queue(), await store.nodes(), await store.active(rows)
    except Unavailable as error:
        return [f"{now}: {error.full}", *below]
    number = sum(row["active"] for row in queue)
    head = (
        f"{now}: {count(number, 'transfer')} at {rate(sum(row['rate'] for row in queue)) or '0 B/s'}, "
        f"{sum(row['pending'] for row in queue)} wait, {count(len(nodes), 'process', 'processes')}"
    )
    page: list[Part] = [Line(head), *map(Line, below), Line("")]
    if shown := queue[: rows // 3]:
        page += [queues(shown), Line("")]
        rows -= len(shown) + 1
    return [*page, moving(active[: max(1, rows)])]


def _end(job: JobRecord) -> Page:
    error = f": {words(job.error)}" if job.error else ""
    return [f"job {job.id} is {standing(job)}, {progress(job)}{error}"]
