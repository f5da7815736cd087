"""``jobs.submit``, ``jobs.submit_many`` and ``jobs.check``: the methods that take a request for a job."""

from typing import Any

from datamover.api.context import CallContext, Caller
from datamover.api.methods import check as checks
from datamover.api.methods.table import MethodTable
from datamover.api.xmlrpc import records
from datamover.bounds.calls import LARGEST_SUBMITTED
from datamover.errors import RequestTooLarge
from datamover.requests.jobs import checking, checking_many

TABLE = MethodTable()


@TABLE.method("jobs.submit", "struct struct", many=True)
async def submit(context: CallContext, caller: Caller, request: Any) -> Any:
    """Ask for files to be moved: jobs.submit(request) -> {id, status, created}.

    request: a struct. Its keys, of which those with "?" may be left out:
      files        array of {source, destination, path, checksum?, size?}; a job of one file may have these keys at the
                   top
      source       an http(s) URL, a dataset (ala://ala?lsid=…), or {destination, path}: a file of a registered place
      destination  the name of a registered place, as destinations.list names it
      path         below the destination's root, without a leading "/" and without ".."; if it ends in "/" or is "", the
                   directory that the file is put into under its source's name
      checksum?    sha256:…, sha512:…, sha1:… or md5:…, in hexadecimal digits: what the content must have
      size?        bytes that the content must have: an int, an i8 or a double
      overwrite?   never (default), if-different or always
      archive?     zip: all files in one, at the one destination and path
      request_id?  text of 1 to 200 characters: the same request_id and request again return the same job
      label?       text of at most 200 characters, for people and for jobs.list
      priority?    1 to 5, 5 first, default 3
      deadline?    seconds from now, more than 0, at most 31622400: then what is not in place fails
      on_failure?  continue (default), or stop: the first file that fails ends the job
      max_attempts?  1 to 100, for each file
      notify?      an http(s) URL that is sent a POST when the job has ended
    Returns the job's id, its status, and whether this call made it. The answer means that the job is on disk.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1003 UNSUPPORTED_SCHEME, 1004 PATH_NOT_ALLOWED, 1005
    SOURCE_NOT_ALLOWED, 1006 NOT_PERMITTED, 1010 REQUEST_ID_CONFLICT, 1011 QUEUE_FULL, 1012 UNAVAILABLE, 1013
    REQUEST_TOO_LARGE. The message names the key, the index and the value.
    Example: jobs.submit({'source': 'https://data.example.org/a.csv', 'destination': 'archive', 'path': 'in/'})
    -> {'id': 12, 'status': 'PENDING', 'created': True}
    """
    job = await context.in_slices(checking(request, context.rules(caller)))
    [answer] = await context.submit([job])
    return records.submitted(answer)


@TABLE.method("jobs.submit_many", "array array", many=True)
async def submit_many(context: CallContext, caller: Caller, requests: Any) -> Any:
    """Ask for several jobs, all or none: jobs.submit_many(requests) -> [{id, status, created}…].

    requests: an array of what jobs.submit takes.
    Returns an array of what jobs.submit returns, in the order of the requests.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1003 UNSUPPORTED_SCHEME, 1004 PATH_NOT_ALLOWED, 1005
    SOURCE_NOT_ALLOWED, 1006 NOT_PERMITTED, 1010 REQUEST_ID_CONFLICT, 1011 QUEUE_FULL, 1012 UNAVAILABLE, 1013
    REQUEST_TOO_LARGE. The message names the key, the index and the value.
    The message begins with the request's index, "requests[1]: ", and nothing is stored.
    Example: jobs.submit_many([{'source': 'https://data.example.org/a.csv', 'destination': 'archive', 'path': 'a/'}])
    -> [{'id': 12, 'status': 'PENDING', 'created': True}]
    """
    jobs = await context.in_slices(checking_many(requests, context.rules(caller)))
    if len(jobs) * LARGEST_SUBMITTED > context.answer_size:
        raise RequestTooLarge(
            f"{len(jobs)} requests: their answer would be larger than [limits] answer_size allows: send several calls"
        )
    return [records.submitted(answer) for answer in await context.submit(jobs)] if jobs else []


@TABLE.method("jobs.check", "struct struct", abandoned=True, many=True)
async def check(context: CallContext, caller: Caller, request: Any) -> Any:
    """Check a request and look at both ends of each file, without making a job: jobs.check(request) -> {ok, files}.

    request: what jobs.submit takes, of at most 1,000 files.
    Returns ok, which is true if no file has a problem, and files, an array of {source: {reachable, name?, size?,
    identity?, modified?}, destination: {writable, free?, path?, exists?, replaced?}, problems: [text…]} in the
    request's order. modified is in seconds since 1970. A dataset's source is {dataset: URL} alone.
    Faults: 1001 INVALID_REQUEST, 1002 UNKNOWN_DESTINATION, 1003 UNSUPPORTED_SCHEME, 1004 PATH_NOT_ALLOWED, 1005
    SOURCE_NOT_ALLOWED, 1006 NOT_PERMITTED, 1012 UNAVAILABLE, 1013 REQUEST_TOO_LARGE. The message names the key, the
    index and the value.
    Example: jobs.check({'source': 'https://data.example.org/a.csv', 'destination': 'archive', 'path': 'in/'})
    -> {'ok': True, 'files': [{'source': {'reachable': True, 'name': 'a.csv', 'size': 54016.0}, 'destination':
    {'writable': True, 'path': 'in/a.csv', 'exists': False}, 'problems': []}]}
    """
    job = await context.in_slices(checking(request, context.rules(caller)))
    return await checks.look(context, caller, job)
