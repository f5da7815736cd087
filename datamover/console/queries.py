"""The names a person types at the console to look; each answers with text to read.

They never change anything: what does is in ``verbs``. What the service knows comes from the job store, as clients get
it.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from datamover.console.tables import duration, percentage, rate, size, table
from datamover.jobs.values import Event, FileRecord, JobRecord, State
from datamover.text import redaction
from datamover.text.printable import one_line
from datamover.text.quantities import count

FILES = 20
EVENTS = 15
JOBS = 20

STATES = {state.value: state for state in State}
NO_STATUS = f"{{!r}} is no status; there are {', '.join(STATES)}"

Answer = Coroutine[Any, Any, str]


class Store(Protocol):
    """What of the job store is needed here."""

    async def job(self, id: int, owner: str | None = None) -> JobRecord: ...

    async def jobs(
        self, owner: str | None = None, *, state: State | None = None, limit: int = 100
    ) -> list[JobRecord]: ...

    async def files(
        self, id: int, owner: str | None = None, *, state: State | None = None, limit: int = 100
    ) -> list[FileRecord]: ...

    async def events(self, owner: str | None = None, *, job: int | None = None, limit: int = 100) -> list[Event]: ...

    async def active(self, limit: int = 100) -> list[dict[str, Any]]: ...

    async def queue(self) -> list[dict[str, Any]]: ...

    async def nodes(self) -> list[dict[str, Any]]: ...


class Queries:
    """``jobs()``, ``job(12)``, ``files(12)``, ``transfers()``, ``destinations()``, ``explain(12)``."""

    def __init__(self, store: Store, describe: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """``describe`` returns what the registry tells of every destination."""
        self._store = store
        self._describe = describe

    def namespace(self) -> dict[str, Callable[..., Answer]]:
        """Return what is typed -> what answers."""
        return {
            "jobs": self.jobs,
            "job": self.job,
            "transfers": self.transfers,
            "destinations": self.destinations,
            "files": self.files,
            "explain": self.explain,
        }

    async def jobs(self, status: str | None = None, limit: int = JOBS) -> str:
        """jobs(), jobs('FAILED'), jobs(limit=50): the newest jobs, or those of one status"""
        if status is not None and status not in STATES:
            return NO_STATUS.format(status)
        found = await self._store.jobs(state=STATES[status] if status else None, limit=limit)
        rows = [
            (
                job.id,
                job.state.value,
                job.owner,
                f"{job.files_completed}/{job.files_total}",
                percentage(job.bytes_done, job.bytes_total),
                size(job.bytes_done),
                rate(job.rate),
                _age(job.submitted_at),
                (job.error or {}).get("code", job.label),
            )
            for job in found
        ]
        return table(("job", "status", "owner", "files", "%", "bytes", "rate", "age", "error or label"), rows)

    async def job(self, number: int) -> str:
        """job(12): one job, its files and the end of its history"""
        job = await self._store.job(number)
        files = await self._store.files(number, limit=FILES)
        events = await self._store.events(job=number, limit=1000)
        lines = [
            f"job {job.id} of {job.owner}: {job.state.value}" + (f", {one_line(job.stage)}" if job.stage else ""),
            f"asked by {job.method} {_age(job.submitted_at)} ago" + (f", labelled {job.label!r}" if job.label else ""),
            f"{job.files_completed} of {count(job.files_total, 'file')} in place, {job.files_failed} failed; "
            f"{size(job.bytes_done)} of {size(job.bytes_total)}, {rate(job.rate)}",
        ]
        if job.waiting_for:
            lines.append(f"waiting for {one_line(job.waiting_for)}")
        lines += [f"{word} error: {_words(error)}" for word, error in _errors(job)]
        lines += ["", _files(files)]
        if job.files_total > len(files):
            lines.append(f"… and {job.files_total - len(files)} more")
        return "\n".join([*lines, "", _history(events[-EVENTS:])])

    async def files(self, number: int, status: str | None = None, limit: int = FILES) -> str:
        """files(12), files(12, 'FAILED'), files(12, limit=50): a job's files, or those of one status"""
        if status is not None and status not in STATES:
            return NO_STATUS.format(status)
        files = await self._store.files(number, state=STATES[status] if status else None, limit=limit)
        errors = [f"file {file.index}: {_words(file.error)}" for file in files if file.error]
        return "\n".join([_files(files), *errors])

    async def transfers(self) -> str:
        """transfers(): what moves at this moment"""
        rows = [
            (
                row["job"],
                row["index"],
                row["stage"] or row["state"],
                percentage(row["bytes_done"], row["size"]),
                size(row["bytes_done"]),
                rate(row["rate"]),
                row["attempt"],
                row["node"] or "",
                row["source"],
                f"{row['destination']}:{row['path']}",
            )
            for row in await self._store.active()
        ]
        heads = ("job", "file", "stage", "%", "bytes", "rate", "attempt", "node", "from", "to")
        return table(heads, rows)

    async def destinations(self) -> str:
        """destinations(): the registered destinations and how busy they are"""
        queue = {row["destination"]: row for row in await self._store.queue()}
        rows = [
            (
                told["name"],
                told["protocol"],
                f"{queue.get(told['name'], {}).get('active', 0)}/{told['max_active']}",
                queue.get(told["name"], {}).get("pending", 0),
                rate(queue.get(told["name"], {}).get("rate", 0.0)),
                told["description"],
            )
            for told in self._describe()
        ]
        shown = table(("destination", "protocol", "active", "queued", "rate", "description"), rows)
        lacks = [f"{told['name']}: {one_line(lack['message'])}" for told in self._describe() for lack in told["lacks"]]
        return "\n".join([shown, *lacks])

    async def explain(self, number: int) -> str:
        """explain(12): in words, what a job is doing and why it does not do more"""
        job = await self._store.job(number)
        lines = [f"Job {job.id} is {job.state.value}."]
        if job.state.terminal:
            lines.append(
                f"It ended {_age(job.finished_at)} ago, with {job.files_completed} of {count(job.files_total, 'file')}."
            )
        elif job.stage:
            left = (job.bytes_total or 0) - job.bytes_done
            lines.append(
                f"It is at: {one_line(job.stage)}, attempt {job.attempt}, at {rate(job.rate) or 'no rate yet'}."
            )
            if job.rate and left > 0:
                lines.append(f"What is known to be left, {size(left)}, takes {duration(left / job.rate)} at this rate.")
        elif job.waiting_for:
            lines.append(f"It waits for {one_line(job.waiting_for)}.")
        if not await self._store.nodes():
            lines.append("No engine is alive: start one, or look at the log of the one that should be.")
        lines += [f"Its {word} error ({error['code']}): {_words(error)}." for word, error in _errors(job)]
        if job.state in (State.FAILED, State.PARTIAL):
            lines.append(f"retry({job.id}) puts what failed back in the queue.")
        return "\n".join(lines)


def _files(files: Sequence[FileRecord]) -> str:
    rows = [
        (
            file.index,
            file.state.value,
            file.attempt,
            percentage(file.bytes_done, file.size),
            size(file.size),
            rate(file.rate),
            file.source,
            f"{file.destination}:{file.path}",
        )
        for file in files
    ]
    return table(("file", "status", "attempt", "%", "bytes", "rate", "from", "to"), rows)


def _errors(job: JobRecord) -> list[tuple[str, Mapping[str, Any]]]:
    found = [("first", job.first_error), ("last", job.error)]
    return [(word, error) for word, error in found if error]


def _history(events: Sequence[Event]) -> str:
    rows = [
        (
            f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            "" if event.file is None else event.file,
            event.kind,
            ", ".join(f"{key} {value}" for key, value in _plain(event.details).items()),
        )
        for event in events
    ]
    return table(("at (UTC)", "file", "event", "details"), rows)


def _plain(details: Mapping[str, Any]) -> Mapping[str, Any]:
    error = details.get("error")
    return {**details, "error": _words(error)} if isinstance(error, Mapping) else details


def _words(error: Mapping[str, Any]) -> str:
    """Return an error as a person at the console may read it, in one line."""
    return one_line(str(redaction.visible_error(error, administrator=True).get("message", "")))


def _age(moment: datetime | None) -> str:
    return duration((datetime.now(UTC) - moment).total_seconds()) if moment else ""
