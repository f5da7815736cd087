"""Make the structs of the interface from the records of ``jobs``. Pure.

Bytes, rates and seconds are doubles, whatever their size. A value that does not apply is None here and is left out of
the answer.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from datamover.bounds.calls import LONGEST_MESSAGE
from datamover.jobs.values import Event, FileRecord, JobRecord, Submitted
from datamover.text.quoting import cut
from datamover.text.redaction import NOT_DELIVERED, visible_error

_COUNTS = frozenset({"attempt", "attempts", "max_attempts", "files", "file", "index", "job"})
"""Details that are counts and stay ints; every other number becomes a double."""


def submitted(answer: Submitted) -> dict[str, Any]:
    return {"id": answer.id, "status": answer.state.value, "created": answer.created}


def job(record: JobRecord, retention: float, *, administrator: bool) -> dict[str, Any]:
    """Return the struct of ``jobs.status``; ``retention`` is how many seconds a job stays readable after its end."""
    return {
        "id": record.id,
        "status": record.state.value,
        "paused": record.paused,
        "label": record.label,
        "owner": record.owner,
        "priority": record.priority,
        "files_total": record.files_total,
        "files_completed": record.files_completed,
        "files_failed": record.files_failed,
        "bytes_total": measure(record.bytes_total),
        "bytes_done": measure(record.bytes_done),
        "rate": measure(record.rate),
        "eta": eta(record),
        "stage": _cut(record.stage),
        "attempt": record.attempt,
        "max_attempts": record.max_attempts,
        "next_retry_at": record.next_retry_at,
        "waiting_for": _cut(record.waiting_for),
        "error": details(record.error, administrator=administrator),
        "first_error": details(record.first_error, administrator=administrator),
        "submitted_at": record.submitted_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "expires_at": record.finished_at + timedelta(seconds=retention) if record.finished_at else None,
    }


def eta(record: JobRecord) -> float | None:
    """Return the seconds left at the present rate, None if they cannot be estimated."""
    if record.state.terminal or record.bytes_total is None or record.rate <= 0:
        return None
    return max(float(record.bytes_total) - float(record.bytes_done), 0.0) / float(record.rate)


def file(record: FileRecord, *, administrator: bool) -> dict[str, Any]:
    """Return the struct of one file in ``jobs.files``."""
    return {
        "index": record.index,
        "source": record.source,
        "destination": record.destination,
        "path": record.path,
        "status": record.state.value,
        "size": measure(record.size),
        "bytes_done": measure(record.bytes_done),
        "rate": measure(record.rate),
        "digest": record.digest,
        "attempt": record.attempt,
        "next_retry_at": record.next_retry_at,
        "error": details(record.error, administrator=administrator),
        "first_error": details(record.first_error, administrator=administrator),
        "started_at": record.started_at,
        "finished_at": record.finished_at,
    }


def event(one: Event, *, administrator: bool) -> dict[str, Any]:
    """Return the struct of one event in ``jobs.events``; the event's own keys override those of its details."""
    known = one.details
    if one.kind == "notify_failed" and not administrator:
        known = {key: value for key, value in known.items() if key == "attempt"} | {"error": NOT_DELIVERED}
    return {
        **(details(known, administrator=administrator) or {}),
        "cursor": str(one.cursor),
        "at": one.at,
        "job": one.job,
        "file": one.file,
        "kind": one.kind,
    }


def tested(found: Mapping[str, Any], *, administrator: bool) -> dict[str, Any]:
    """Return the struct of ``destinations.test``, made of the registry's result."""
    steps = [
        {**step, "error": details(step["error"], administrator=administrator)} if "error" in step else step
        for step in found["steps"]
    ]
    return {**found, "steps": steps}


def measure(value: float | None) -> float | None:
    return None if value is None else float(value)


def details(table: Mapping[str, Any] | None, *, administrator: bool) -> dict[str, Any] | None:
    """Return a struct of details, with measures as doubles and errors as a client or an administrator may see them."""
    if table is None:
        return None
    return {
        key: details(value, administrator=administrator) if isinstance(value, Mapping) else _detail(key, value)
        for key, value in visible_error(table, administrator=administrator).items()
    }


def _cut(text: str | None) -> str | None:
    return None if text is None else cut(text, LONGEST_MESSAGE)


def _detail(key: str, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and key not in _COUNTS:
        return float(value)
    return value
