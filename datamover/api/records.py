"""The job room's records -> the structs of the interface.

Pure. Bytes, rates and seconds are doubles, whatever their size; what does not apply is None here and left out on the
wire.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from datamover.jobs.values import Event, FileRecord, JobRecord, Submitted

_COUNTS = frozenset({"attempt", "attempts", "max_attempts", "files", "file", "index", "job"})
"""What events and errors tell that is counted: every other number is a measure."""


def submitted(answer: Submitted) -> dict[str, Any]:
    return {"id": answer.id, "status": answer.state.value, "created": answer.created}


def job(record: JobRecord, retention: float) -> dict[str, Any]:
    """Return what ``jobs.status`` tells; ``retention``: seconds that a job stays readable after its end."""
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
        "stage": record.stage,
        "attempt": record.attempt,
        "max_attempts": record.max_attempts,
        "next_retry_at": record.next_retry_at,
        "waiting_for": record.waiting_for,
        "error": details(record.error),
        "first_error": details(record.first_error),
        "submitted_at": record.submitted_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "expires_at": record.finished_at + timedelta(seconds=retention) if record.finished_at else None,
    }


def eta(record: JobRecord) -> float | None:
    """Return the seconds that are left at the present rate, None where that cannot be told."""
    if record.state.terminal or record.bytes_total is None or record.rate <= 0:
        return None
    return max(float(record.bytes_total) - float(record.bytes_done), 0.0) / float(record.rate)


def file(record: FileRecord) -> dict[str, Any]:
    """Return what ``jobs.files`` tells of one file."""
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
        "error": details(record.error),
        "first_error": details(record.first_error),
        "started_at": record.started_at,
        "finished_at": record.finished_at,
    }


def event(one: Event) -> dict[str, Any]:
    """Return what ``jobs.events`` tells of one event; its own keys win over its details'."""
    return {
        **(details(one.details) or {}),
        "cursor": str(one.cursor),
        "at": one.at,
        "job": one.job,
        "file": one.file,
        "kind": one.kind,
    }


def measure(value: float | None) -> float | None:
    return None if value is None else float(value)


def details(table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a struct of details, its measures as doubles."""
    return None if table is None else {key: _detail(key, value) for key, value in table.items()}


def _detail(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return details(value)
    if isinstance(value, int) and not isinstance(value, bool) and key not in _COUNTS:
        return float(value)
    return value
