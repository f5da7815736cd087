"""``jobs.*``: submit jobs, follow them and change them."""

from collections.abc import Awaitable, Callable
from typing import Any

from datamover.api.context import Caller, Context
from datamover.api.methods import check as checks
from datamover.api.methods.table import Table
from datamover.api.xmlrpc import parameters, records, wire
from datamover.errors import NotPermitted, RequestTooLarge
from datamover.jobs.values import JobRecord
from datamover.requests.jobs import checking, checking_many
from datamover.text.bounds import LARGEST_SUBMITTED, quoted

TABLE = Table()


@TABLE.method("jobs.submit", "struct struct", many=True)
async def submit(context: Context, caller: Caller, request: Any) -> Any:
    """Ask for files to be moved: jobs.submit(request) -> {id, status, created}.

    request: {files: [{source, destination, path, checksum?, size?}…], overwrite?, archive?, request_id?, label?,
    max_attempts?, notify?}; one file's keys may stand at the top instead of in files. source is an http(s) URL or
    {destination, path}; path is below the destination's root, and a directory if it ends in "/". The answer means that
    the job is on disk. The same request_id and request again return the same job, created false.
    """
    job = await context.in_slices(checking(request, context.rules(caller)))
    [answer] = await context.submit([job])
    return records.submitted(answer)


@TABLE.method("jobs.submit_many", "array array", many=True)
async def submit_many(context: Context, caller: Caller, requests: Any) -> Any:
    """Ask for several jobs, all or none: jobs.submit_many([request…]) -> [{id, status, created}…].

    A refusal names the request by its index, and nothing is stored.
    """
    jobs = await context.in_slices(checking_many(requests, context.rules(caller)))
    if len(jobs) * LARGEST_SUBMITTED > context.answer_size:
        raise RequestTooLarge(
            f"{len(jobs)} requests: their answer would be larger than [limits] answer_size allows: send several calls"
        )
    return [records.submitted(answer) for answer in await context.submit(jobs)] if jobs else []


@TABLE.method("jobs.check", "struct struct", abandoned=True, many=True)
async def check(context: Context, caller: Caller, request: Any) -> Any:
    """Check a request and look at both ends, without making a job: jobs.check(request) -> {ok, files}.

    files: [{source: {reachable, name?, size?, identity?, modified?}, destination: {writable, exists, free?, path?},
    problems: [text…]}…]. What jobs.submit refuses is refused here alike. At most 1,000 files.
    """
    job = await context.in_slices(checking(request, context.rules(caller)))
    return await checks.look(context, caller, job)


@TABLE.method("jobs.status", "struct id")
async def status(context: Context, caller: Caller, id: Any) -> Any:
    """Tell how far a job is: jobs.status(id) -> {id, status, files_total, files_completed, bytes_done, rate, …}.

    status: PENDING, PREPARING, IN_PROGRESS, COMPLETED, PARTIAL, FAILED or CANCELLED. What does not apply is left out.
    """
    return await _job(context, caller, id, context.store.job)


@TABLE.method("jobs.files", "array id", "array id struct")
async def files(context: Context, caller: Caller, id: Any, options: Any = None) -> Any:
    """Tell of each file of a job: jobs.files(id, {status?, offset?, limit?}) -> [{index, source, path, status, …}…].

    In the request's order; limit is 100 where it is not given, 1,000 at most.
    """
    table = parameters.options(options, "status", "offset", "limit")
    found = await context.store.files(
        parameters.job_id(id),
        caller.owner,
        state=parameters.state(table),
        offset=parameters.number(table, "offset", 0, 0, 2**31 - 1),
        limit=parameters.limit(table),
    )
    return [records.file(each, administrator=caller.administrator) for each in found]


@TABLE.method("jobs.list", "array", "array struct")
async def list_jobs(context: Context, caller: Caller, options: Any = None) -> Any:
    """Tell of the jobs, newest first: jobs.list({status?, owner?, label?, destination?, before?, limit?}) -> [job…].

    Each is what jobs.status tells. before is the id that the page before ended with; limit is 100 where it is not
    given, 1,000 at most. A page may be shorter, where it would be too large; the last one is empty. owner is for
    administrators, who see everybody's jobs.
    """
    table = parameters.options(options, "status", "owner", "label", "destination", "before", "limit")
    owner = parameters.optional_text(table, "owner")
    if owner is not None and not caller.administrator and owner != caller.name:
        raise NotPermitted(f"owner: {quoted(owner)}: only an administrator sees the jobs of others")
    found = await context.store.jobs(
        caller.owner if owner is None else owner,
        state=parameters.state(table),
        label=parameters.optional_text(table, "label"),
        destination=parameters.optional_text(table, "destination"),
        before=parameters.job_id(table["before"], "before") if "before" in table else None,
        limit=parameters.limit(table),
    )
    return wire.Page(context.job_struct(each, caller) for each in found)


@TABLE.method("jobs.wait", "struct id seconds", abandoned=True)
async def wait(context: Context, caller: Caller, id: Any, timeout: Any) -> Any:  # noqa: ASYNC109
    """Wait for a job's end: jobs.wait(id, timeout) -> what jobs.status tells.

    Answers when the job ends, or as it is after timeout seconds, 60 at most.
    """
    waiting = parameters.seconds(timeout, "timeout")
    return context.job_struct(await context.store.wait(parameters.job_id(id), waiting, caller.owner), caller)


@TABLE.method("jobs.cancel", "struct id", audited=True)
async def cancel(context: Context, caller: Caller, id: Any) -> Any:
    """Give a job up: jobs.cancel(id) -> what jobs.status tells afterwards. Files in place stay there."""
    return await _job(context, caller, id, context.store.cancel)


@TABLE.method("jobs.pause", "struct id", audited=True)
async def pause(context: Context, caller: Caller, id: Any) -> Any:
    """Stop a job's files for a while: jobs.pause(id) -> what jobs.status tells afterwards. What arrived is kept."""
    return await _job(context, caller, id, context.store.pause)


@TABLE.method("jobs.resume", "struct id", audited=True)
async def resume(context: Context, caller: Caller, id: Any) -> Any:
    """Go on with a paused job, where it was: jobs.resume(id) -> what jobs.status tells afterwards."""
    return await _job(context, caller, id, context.store.resume)


@TABLE.method("jobs.retry", "struct id", audited=True)
async def retry(context: Context, caller: Caller, id: Any) -> Any:
    """Try a job's failed files again, and those alone: jobs.retry(id) -> what jobs.status tells afterwards."""
    return await _job(context, caller, id, context.store.retry)


@TABLE.method("jobs.renotify", "struct id", audited=True)
async def renotify(context: Context, caller: Caller, id: Any) -> Any:
    """Send the notice of a job's end once more: jobs.renotify(id) -> what jobs.status tells.

    For jobs that were asked for with notify and have ended; the notice has the id that it had.
    """
    return await _job(context, caller, id, context.store.renotify)


@TABLE.method("jobs.events", "struct", "struct struct", abandoned=True)
async def events(context: Context, caller: Caller, options: Any = None) -> Any:
    """Tell what happened: jobs.events({after?, job?, limit?, timeout?}) -> {events: [{cursor, at, job, …}…], cursor}.

    The append-only history after a cursor; with the cursor that it returns the next call goes on, missing nothing and
    telling nothing twice. timeout: seconds to wait for the first event, 60 at most, 0 where it is not given.
    """
    table = parameters.options(options, "after", "job", "limit", "timeout")
    after = parameters.cursor(table, "after")
    found = await context.store.events(
        caller.owner,
        after=after,
        job=parameters.job_id(table["job"], "job") if "job" in table else None,
        limit=parameters.limit(table),
        timeout=parameters.seconds(table.get("timeout", 0), "timeout"),
    )
    listed = [records.event(each, administrator=caller.administrator) for each in found]
    return {"events": listed, "cursor": str(found[-1].cursor if found else after)}


async def _job(
    context: Context, caller: Caller, id: Any, run: Callable[[int, str | None], Awaitable[JobRecord]]
) -> Any:
    """Run a method of the store on one job, and return the struct that describes the job afterwards."""
    return context.job_struct(await run(parameters.job_id(id), caller.owner), caller)
