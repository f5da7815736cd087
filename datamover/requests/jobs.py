"""Check what a client asks for, as far as that takes no look at source or destination, and return a ``NewJob``.

Pure: no reactor, no database, no network. A refusal names the key, the index and the value. What may take long (a
hundred thousand files) is a generator that yields between files, so that the caller can do other work. The transfer
finds out whether a source exists and can be reached.
"""

import hashlib
import json
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from datamover.bounds.calls import LONGEST_DEADLINE, LONGEST_LABEL, LONGEST_REQUEST_ID, MOST_ATTEMPTS
from datamover.errors import InvalidRequest, RequestError, RequestTooLarge
from datamover.jobs.targets import Targets
from datamover.jobs.values import NewFile, NewJob, Overwrite
from datamover.requests.coercion import array, known_keys, number, struct, text, told, whole
from datamover.requests.files import FILE_KEYS, Rules, canonical, check_file, notice_url
from datamover.text.quantities import count

T = TypeVar("T")

JOB_KEYS = frozenset(
    {
        "files", "overwrite", "archive", "request_id", "label", "max_attempts", "priority", "deadline", "on_failure",
        "notify",
    }
)  # fmt: skip
KNOWN_KEYS = JOB_KEYS | FILE_KEYS
OVERWRITES = {each.value: each for each in Overwrite}
DEFAULT_PRIORITY = 3


def checking(given: object, rules: Rules) -> Generator[None, None, NewJob]:
    """Check one request, yielding after each file.

    Raises InvalidRequest, UnknownDestination, UnsupportedScheme, PathNotAllowed, SourceNotAllowed, NotPermitted and
    RequestTooLarge; the message names key, index and value.
    """
    request = struct(given)
    if request is None:
        raise InvalidRequest(
            f"the request is {told(given)}: expected a struct with 'files', or with 'source' and so on"
        )
    known_keys(request, KNOWN_KEYS)
    overwrite = _choice(request, "overwrite", OVERWRITES)
    archive = _choice(request, "archive", ("zip",))
    request_id = _text(request, "request_id", LONGEST_REQUEST_ID)
    if request_id == "":
        raise InvalidRequest("request_id: '': expected at least one character, or no such key")
    label = _text(request, "label", LONGEST_LABEL)
    attempts = request.get("max_attempts", rules.max_attempts)
    if (max_attempts := whole(attempts)) is None or not 1 <= max_attempts <= MOST_ATTEMPTS:
        raise InvalidRequest(f"max_attempts: {told(attempts)}: expected a whole number from 1 to {MOST_ATTEMPTS}")
    asked = request.get("priority", DEFAULT_PRIORITY)
    if (priority := whole(asked)) is None or not 1 <= priority <= 5:
        raise InvalidRequest(f"priority: {told(asked)}: expected a whole number from 1 to 5, 5 being first")
    deadline = number(request["deadline"]) if "deadline" in request else None
    if "deadline" in request and (deadline is None or not 0 < deadline <= LONGEST_DEADLINE):
        _refuse("deadline", request["deadline"], f"seconds from now, at most {LONGEST_DEADLINE}")
    on_failure = _choice(request, "on_failure", ("continue", "stop")) or "continue"
    notify = notice_url(request["notify"], rules) if "notify" in request else None
    digest = None if request_id is None else hashlib.sha256()
    files: list[NewFile] = []
    targets = Targets(shared=archive is not None)
    for where, item in _items(request, archive, rules):
        file = check_file(item, where, archive, rules)
        for each in rules.datasets.expanded(file, archive=archive is not None):
            targets.add(each, where)
            files.append(each)
        if len(files) > rules.max_files:
            most = count(rules.max_files, "file")
            raise RequestTooLarge(f"{where}: more than {most}, those of datasets included; send several requests")
        if digest is not None:
            digest.update(canonical(file))
        yield
    job = NewJob(
        owner=rules.owner,
        files=tuple(files),
        overwrite=OVERWRITES[overwrite] if overwrite else Overwrite.NEVER,
        archive=archive,
        label=label or "",
        request_id=request_id,
        max_attempts=max_attempts,
        priority=priority,
        deadline=None if deadline is None else float(deadline),
        stop_on_failure=on_failure == "stop",
        notify=notify,
    )
    if digest is None:
        return job
    told_attempts = max_attempts if "max_attempts" in request else None
    rest = [job.overwrite.value, archive, job.label, told_attempts, priority, job.deadline, on_failure]
    if job.notify is not None:
        rest.append(job.notify.url)
    digest.update(json.dumps(rest).encode())
    return replace(job, fingerprint=digest.hexdigest())


def checking_many(given: object, rules: Rules) -> Generator[None, None, list[NewJob]]:
    """Check an array of requests like ``checking``; a refusal's message begins with "requests[2]: "."""
    requests = array(given)
    if requests is None:
        raise InvalidRequest(f"requests: {told(given)}: expected an array of requests")
    if len(requests) > rules.max_files:
        raise RequestTooLarge(f"{len(requests)} requests in one call: expected at most {rules.max_files}")
    jobs: list[NewJob] = []
    left = rules.max_files
    for index, request in enumerate(requests):
        try:
            job = yield from checking(request, rules)
            left -= len(job.files)
            if left < 0:
                raise RequestTooLarge(f"more than {count(rules.max_files, 'file')} in one call: send them in several")
        except RequestError as error:
            raise error.below(f"requests[{index}]") from None
        jobs.append(job)
    return jobs


def finish(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end at once and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _items(request: Mapping[str, Any], archive: str | None, rules: Rules) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each file's struct, with the name that messages call it by."""
    top = FILE_KEYS & request.keys()
    if "files" not in request:
        yield "", {key: request[key] for key in top}
        return
    common = {"destination", "path"} if archive else set()
    if top - common:
        raise InvalidRequest(f"{min(top - common)}: given beside 'files': put it into each of them")
    items = array(request["files"])
    if not items:
        _refuse("files", request["files"], "an array of at least one struct")
    if len(items) > rules.max_files:
        raise RequestTooLarge(f"files: {len(items)} of them: expected at most {rules.max_files}; send several requests")
    first: tuple[str | None, str | None] | None = None
    for index, given in enumerate(items):
        where, item = f"files[{index}]", struct(given)
        if item is None:
            raise InvalidRequest(f"{where}: {told(given)}: expected a struct with 'source', 'destination' and 'path'")
        merged = {**{key: request[key] for key in top}, **item}
        if archive:
            pair = (text(merged.get("destination")), text(merged.get("path")))
            first = first or pair
            if pair != first:
                raise InvalidRequest(
                    f"{where}: an archive has one destination and path for all its files: name the same in each"
                )
        yield where, merged


def _choice(request: Mapping[str, Any], key: str, choices: Collection[str]) -> str | None:
    if key not in request:
        return None
    if not isinstance(request[key], str) or request[key] not in choices:
        _refuse(key, request[key], f"one of {', '.join(choices)}" if len(choices) > 1 else repr(*choices))
    return str(request[key])


def _text(request: Mapping[str, Any], key: str, longest: int) -> str | None:
    if key not in request:
        return None
    value = text(request[key])
    if value is None or len(value) > longest:
        _refuse(key, request[key], f"text of at most {longest} characters")
    if "\0" in value:
        _refuse(key, value, "text without NUL")
    return value


def _refuse(key: str, value: object, expected: str) -> NoReturn:
    raise InvalidRequest(f"{key}: {told(value)}: expected {expected}")
