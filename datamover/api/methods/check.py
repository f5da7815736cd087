"""``jobs.check``: inspect the source and the target of every file of a request, without making a job.

Every destination that the request names is tested once, as a transfer would use it; what the test writes is removed.
The answer lists the problems that a job would meet now. Inspections are limited for each caller and each source host.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from datamover.api.context import CallContext, Caller
from datamover.api.xmlrpc.records import measure, tested
from datamover.bounds.calls import INSPECTIONS_AT_ONCE, MOST_CHECKED
from datamover.concurrency.gather import gather
from datamover.errors import DataMoverError, DestinationInvalid, RequestTooLarge, Scope, SourceForbidden, SourceNotFound
from datamover.jobs.endpoints import host_of, source_host
from datamover.jobs.values import DatasetSource, Naming, NewFile, NewJob, Overwrite, PlaceSource
from datamover.protocols.base import Inspection, Origin
from datamover.registry.strays import with_strays
from datamover.text.quantities import count
from datamover.text.quoting import quoted, short_source
from datamover.web.amounts import movable

_Look = Callable[[], Coroutine[Any, Any, dict[str, Any]]]


async def look(context: CallContext, caller: Caller, job: NewJob) -> dict[str, Any]:
    """Return ``{ok, files}``; completes when every source and target was inspected. Cancelling stops that."""
    if len(job.files) > MOST_CHECKED:
        raise RequestTooLarge(f"files: {len(job.files)} of them: jobs.check looks at {MOST_CHECKED} at most")
    names = sorted({file.destination for file in job.files})
    tried = await _all(context, caller, [partial(_trial, context, caller, name) for name in names])
    trials = dict(zip(names, tried, strict=True))
    looks = [partial(_file, context, caller, job, file, trials[file.destination]) for file in job.files]
    files = await _all(context, caller, looks)
    return {"ok": not any(file["problems"] for file in files), "files": files}


async def test(context: CallContext, caller: Caller, name: str) -> dict[str, Any]:
    """Test one destination, within the caller's limit of inspections."""
    async with context.runtime.looks.held(caller.name, INSPECTIONS_AT_ONCE):
        found = await context.registry.test(name)
    return await with_strays(context.store, name, found)


async def _all(context: CallContext, caller: Caller, calls: Sequence[_Look]) -> list[dict[str, Any]]:
    """Return what the calls return, in order. Cancelling, or an error in one call, cancels the others."""

    async def look_in_turn(call: _Look) -> dict[str, Any]:
        async with context.runtime.looks.held(caller.name, INSPECTIONS_AT_ONCE):
            return await call()

    return await gather([partial(look_in_turn, call) for call in calls], INSPECTIONS_AT_ONCE)


async def _trial(context: CallContext, caller: Caller, name: str) -> dict[str, Any]:
    """Return whether a destination can be written, its free bytes, and its problems."""
    answer: dict[str, Any] = {"writable": False, "problems": []}
    try:
        result = await context.registry.test(name)
        steps = tested(result, administrator=caller.administrator)["steps"]
        answer["problems"] = [_step(name, step) for step in steps if not step["ok"]]
        answer["writable"] = result["ok"] and any(step["step"] == "write" for step in result["steps"])
        if result["ok"] and not answer["writable"]:
            answer["problems"] = [f"destination {name!r} can be read only"]
        if answer["writable"]:
            answer["free"], answer["keep_free"] = result.get("free"), result.get("keep_free", 0.0)
    except DataMoverError as error:
        answer["problems"].append(f"destination {name!r}: {_words(error, caller)}")
    return answer


def _words(error: DataMoverError, caller: Caller) -> str:
    return error.full if caller.administrator else error.message


def _step(name: str, step: dict[str, Any]) -> str:
    error = step.get("error") or "failed"
    message = error.get("message", "failed") if isinstance(error, dict) else error
    return f"destination {name!r}: {step['step']}: {message}"


async def _file(
    context: CallContext, caller: Caller, job: NewJob, file: NewFile, trial: dict[str, Any]
) -> dict[str, Any]:
    problems: list[str] = list(trial["problems"])
    if isinstance(file.source, DatasetSource):
        # A dataset is made when the job runs: there is nothing to inspect yet.
        return {
            "source": {"dataset": file.source.url},
            "destination": {"writable": trial["writable"]},
            "problems": problems,
        }
    found: Inspection | None = None
    try:
        host = "host", host_of(source_host(file.source))
        async with context.runtime.looks.held(host, context.config.limits.per_source_host):
            found = await _origin(context, job.owner, file).inspect()
        movable(found.size, lambda: short_source(file.source.shown))
        if found.directory:
            raise SourceNotFound(f"{short_source(file.source.shown)} is a directory: expected a file")
        if found.special:
            raise SourceForbidden(f"{short_source(file.source.shown)} is not a regular file: name a file")
        if file.size is not None and found.size is not None and found.size != file.size:
            problems.append(f"source: its size is {count(found.size, 'byte')}, expected {file.size}")
    except DataMoverError as error:
        problems.append(f"source: {_words(error, caller)}")
        found = None
    source = {"reachable": found is not None, **(_inspected(found) if found else {})}
    destination = {"writable": trial["writable"], "free": trial.get("free")}
    path = _path(file, found)
    if trial["writable"] and path is not None:
        try:
            destination |= await _target(context, job, file, path)
        except DataMoverError as error:
            problems.append(f"destination {file.destination!r}: {_words(error, caller)}")
    problems += _no_room(file.destination, trial, found.size if found else None)
    return {"source": source, "destination": destination, "problems": problems}


def _no_room(name: str, trial: dict[str, Any], size: int | None) -> list[str]:
    free, keep = trial.get("free"), trial.get("keep_free", 0.0)
    if free is None or size is None or size <= free - keep:
        return []
    what = f"destination {name!r}: the file's {count(size, 'byte')}"
    if size > free:
        return [f"{what} do not fit: {free:.0f} are free"]
    return [f"{what} have to wait for room: {free:.0f} are free, and keep_free is {keep:.0f}"]


def _origin(context: CallContext, owner: str, file: NewFile) -> Origin:
    source = file.source
    if isinstance(source, PlaceSource):
        return context.registry.get(source.destination).at(Scope.SOURCE).origin(source.path)
    assert not isinstance(source, DatasetSource), "the caller handles datasets"
    return context.http.origin(source.url, client=owner)


def _inspected(found: Inspection) -> dict[str, Any]:
    return {
        "name": found.name or None,
        "size": measure(found.size),
        "identity": found.identity,
        "modified": measure(found.modified),
    }


def _path(file: NewFile, found: Inspection | None) -> str | None:
    """Return the file's path at the destination, None if its name is not known."""
    if file.naming is not Naming.INTO:
        return file.path
    return f"{file.path}/{found.name}".lstrip("/") if found and found.name else None


async def _target(context: CallContext, job: NewJob, file: NewFile, path: str) -> dict[str, Any]:
    there = await context.registry.get(file.destination).at(Scope.DESTINATION).inspect(path)
    if there is not None and there.directory:
        raise DestinationInvalid(f"{quoted(path)} is a directory: end the path in '/' to put the file into it")
    if there is not None and there.special:
        raise DestinationInvalid(f"{quoted(path)} is not a regular file: remove it or take another name")
    answer: dict[str, Any] = {"path": path, "exists": there is not None}
    if there is not None:
        answer["replaced"] = job.overwrite is not Overwrite.NEVER
    return answer
