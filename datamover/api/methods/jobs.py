"""``jobs.*`` of existing jobs: follow them and change them."""

from collections.abc import Awaitable, Callable
from typing import Any

from datamover.api.context import CallContext, Caller
from datamover.api.methods.table import MethodTable
from datamover.api.xmlrpc import parameters, records, wire
from datamover.bounds.calls import DEFAULT_WAIT
from datamover.errors import NotPermitted
from datamover.jobs.values import JobRecord
from datamover.text.quoting import quoted

TABLE = MethodTable()


@TABLE.method("jobs.status", "struct id")
async def status(context: CallContext, caller: Caller, id: Any) -> Any:
    """Return the status and the progress of a job: jobs.status(id) -> struct.

    id: the job, an int or a text of digits.
    Returns id, status, paused, label, owner, priority, files_total, files_completed, files_failed, bytes_total,
    bytes_done, rate (bytes a second), eta (seconds), stage, attempt, max_attempts, next_retry_at, waiting_for, error,
    first_error ({code, retryable, scope, message, attempt, at}), submitted_at, started_at, finished_at, expires_at.
    What does not apply is left out. status is PENDING, PREPARING or IN_PROGRESS, and in the end COMPLETED, PARTIAL,
    FAILED or CANCELLED.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1012 UNAVAILABLE.
    Example: jobs.status(12) -> {'id': 12, 'status': 'IN_PROGRESS', 'bytes_done': 1048576.0, 'bytes_total': 3e9}
    """
    return await _job(context, caller, id, context.store.job)


@TABLE.method("jobs.files", "array id", "array id struct")
async def files(context: CallContext, caller: Caller, id: Any, options: Any = None) -> Any:
    """Return the status and the progress of a job's files: jobs.files(id, options) -> [struct…].

    id: the job, an int or a text of digits.
    options: may be left out; {status?: only files of this status, offset?: files to leave out at the beginning, default
    0, limit?: files to return, 1 to 1,000, default 100}.
    Returns an array in the request's order of {index, source, destination, path, status, size?, bytes_done, rate,
    digest?, attempt, next_retry_at?, error?, first_error?, started_at?, finished_at?}.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1012 UNAVAILABLE, 1013 REQUEST_TOO_LARGE (ask for
    fewer by limit).
    Example: jobs.files(12, {'limit': 1}) -> [{'index': 0, 'path': 'in/a.csv', 'status': 'COMPLETED', 'size': 54016.0}]
    """
    table = parameters.options(options, "status", "offset", "limit")
    await context.place.take()
    found = await context.store.files(
        parameters.job_id(id),
        caller.owner,
        state=parameters.state(table),
        offset=parameters.number(table, "offset", 0, 0, 2**31 - 1),
        limit=parameters.limit(table),
    )
    return [records.file(each, administrator=caller.administrator) for each in found]


@TABLE.method("jobs.list", "array", "array struct")
async def list_jobs(context: CallContext, caller: Caller, options: Any = None) -> Any:
    """List jobs, newest first: jobs.list(options) -> [struct…].

    options: may be left out; {status?, label?, destination?: only jobs that have these, owner?: only this client's
    jobs, for administrators, before?: only jobs with a smaller id, limit?: jobs to return, 1 to 1,000, default 100}.
    Returns an array of what jobs.status returns, without waiting_for. The next page is asked for with before, the last
    id of this one. A page ends early where the answer would be too large; the page after the last job is empty.
    Faults: 1001 INVALID_REQUEST, 1006 NOT_PERMITTED (another's owner), 1012 UNAVAILABLE.
    Example: jobs.list({'status': 'FAILED', 'limit': 1}) -> [{'id': 12, 'status': 'FAILED', 'label': 'experiment 7'}]
    """
    table = parameters.options(options, "status", "owner", "label", "destination", "before", "limit")
    owner = parameters.optional_text(table, "owner")
    if owner is not None and not caller.administrator and owner != caller.name:
        raise NotPermitted(f"owner: {quoted(owner)}: only an administrator sees the jobs of others")
    await context.place.take()
    found = await context.store.jobs(
        caller.owner if owner is None else owner,
        state=parameters.state(table),
        label=parameters.optional_text(table, "label"),
        destination=parameters.optional_text(table, "destination"),
        before=parameters.job_id(table["before"], "before") if "before" in table else None,
        limit=parameters.limit(table),
    )
    return wire.PagedArray(context.job_struct(each, caller) for each in found)


@TABLE.method("jobs.wait", "struct id", "struct id seconds", abandoned=True)
async def wait(context: CallContext, caller: Caller, id: Any, timeout: Any = DEFAULT_WAIT) -> Any:  # noqa: ASYNC109
    """Wait for a job's end: jobs.wait(id, timeout) -> struct.

    id: the job, an int or a text of digits.
    timeout: seconds to wait, 0 to 60, an int or a double; 30 if it is left out. The timeout of the HTTP client must be
    longer.
    Returns what jobs.status returns: as soon as the job has ended, or as it is when the timeout has passed.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1012 UNAVAILABLE.
    1012 also means that too many calls wait ([limits] waiting_calls).
    Example: jobs.wait(12, 60) -> {'id': 12, 'status': 'COMPLETED', 'files_completed': 1}
    """
    waiting = parameters.seconds(timeout, "timeout")
    return context.job_struct(await context.store.wait(parameters.job_id(id), waiting, caller.owner), caller)


@TABLE.method("jobs.cancel", "struct id", audited=True)
async def cancel(context: CallContext, caller: Caller, id: Any) -> Any:
    """Cancel a job: jobs.cancel(id) -> struct.

    id: the job, an int or a text of digits.
    Returns what jobs.status returns. Files that wait are cancelled at once, files that move soon after, and until then
    the job is IN_PROGRESS. Files that are in place stay. A job that is CANCELLED already is returned as it is.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1009 INVALID_STATE, 1012 UNAVAILABLE.
    Example: jobs.cancel(12) -> {'id': 12, 'status': 'CANCELLED'}
    """
    return await _job(context, caller, id, context.store.cancel)


@TABLE.method("jobs.pause", "struct id", audited=True)
async def pause(context: CallContext, caller: Caller, id: Any) -> Any:
    """Stop a job's files until jobs.resume: jobs.pause(id) -> struct.

    id: the job, an int or a text of digits.
    Returns what jobs.status returns, with paused true. What has arrived is kept.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1009 INVALID_STATE, 1012 UNAVAILABLE.
    Example: jobs.pause(12) -> {'id': 12, 'status': 'IN_PROGRESS', 'paused': True}
    """
    return await _job(context, caller, id, context.store.pause)


@TABLE.method("jobs.resume", "struct id", audited=True)
async def resume(context: CallContext, caller: Caller, id: Any) -> Any:
    """Go on with a paused job: jobs.resume(id) -> struct.

    id: the job, an int or a text of digits.
    Returns what jobs.status returns, with paused false. Files go on from where they were, and those that wait for their
    next attempt are tried at once, even if the job was not paused.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1009 INVALID_STATE, 1012 UNAVAILABLE.
    Example: jobs.resume(12) -> {'id': 12, 'status': 'IN_PROGRESS', 'paused': False}
    """
    return await _job(context, caller, id, context.store.resume)


@TABLE.method("jobs.retry", "struct id", audited=True)
async def retry(context: CallContext, caller: Caller, id: Any) -> Any:
    """Try the failed files of a job again, and only those: jobs.retry(id) -> struct.

    id: the job, an int or a text of digits. It must be FAILED or PARTIAL, and have files that failed.
    Returns what jobs.status returns. Each file has all its attempts again; the deadline no longer holds.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1009 INVALID_STATE, 1012 UNAVAILABLE.
    Example: jobs.retry(12) -> {'id': 12, 'status': 'IN_PROGRESS'}
    """
    return await _job(context, caller, id, context.store.retry)


@TABLE.method("jobs.renotify", "struct id", audited=True)
async def renotify(context: CallContext, caller: Caller, id: Any) -> Any:
    """Send the notice of a job's end once more: jobs.renotify(id) -> struct.

    id: the job, an int or a text of digits. It must have ended, and its request must have had notify.
    Returns what jobs.status returns. The notice has the id that it had before.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1009 INVALID_STATE, 1012 UNAVAILABLE.
    Example: jobs.renotify(12) -> {'id': 12, 'status': 'COMPLETED'}
    """
    return await _job(context, caller, id, context.store.renotify)


@TABLE.method("jobs.events", "struct", "struct struct", abandoned=True)
async def events(context: CallContext, caller: Caller, options: Any = None) -> Any:
    """Return what happened, in order: jobs.events(options) -> {events, cursor}.

    options: may be left out; {after?: a cursor, default the beginning, job?: only this job's events, limit?: events to
    return, 1 to 1,000, default 100, timeout?: seconds to wait for the first event, 0 to 60, default 0}.
    Returns events, an array of {cursor, at, job, file?, kind, …}, and cursor: given as after, the next call goes on,
    misses no event and repeats none. The timeout of the HTTP client must be longer than timeout.
    Faults: 1001 INVALID_REQUEST, 1007 UNKNOWN_JOB, 1008 EXPIRED_JOB, 1012 UNAVAILABLE, 1013 REQUEST_TOO_LARGE (ask for
    fewer by limit).
    Example: jobs.events({'job': 12, 'limit': 1, 'timeout': 60})
    -> {'events': [{'cursor': '102', 'at': '2026-11-24T02:59:09Z', 'job': 12, 'kind': 'submitted', 'files': 1}],
    'cursor': '102'}
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
    context: CallContext, caller: Caller, id: Any, run: Callable[[int, str | None], Awaitable[JobRecord]]
) -> Any:
    """Run a method of the store on one job, and return the struct that describes the job afterwards."""
    await context.place.take()
    record = await run(parameters.job_id(id), caller.owner)
    return context.job_struct(record, caller)
