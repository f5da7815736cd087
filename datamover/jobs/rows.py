"""Conversion between rows of the database and the values of jobs. Pure.

The meaning of every column is written here and nowhere else. The queries are in queries.sql.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from datamover.errors import InternalError
from datamover.jobs.endpoints import source_host
from datamover.jobs.targets import known_target
from datamover.jobs.values import (
    Checkpoint,
    Checksum,
    DatasetSource,
    Event,
    FileRecord,
    JobRecord,
    Naming,
    NewFile,
    NewJob,
    Notice,
    Overwrite,
    PlaceSource,
    Progress,
    SourceRef,
    State,
    Transfer,
    UrlSource,
)
from datamover.postgres.database import Row
from datamover.web.amounts import together
from datamover.web.url import WebUrl


class NoKey(InternalError):
    """A sealed value that none of the keys opens."""

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(
            f"the key that {what} was sealed with is missing (service.key_file): have the operator restore it, "
            f"and then {way_out}"
        )


class Seal(Protocol):
    """Encrypts the values that rows must not show."""

    def seal(self, text: str) -> bytes: ...

    def open(self, sealed: bytes) -> str: ...


def job_parameters(job: NewJob) -> dict[str, Any]:
    """Return a job's row for ``insert_jobs``, without the columns that are NULL."""
    sizes = [file.size for file in job.files if file.size is not None]
    return {
        "owner": job.owner,
        "method": job.method,
        "label": job.label,
        "overwrite": job.overwrite,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "stop_on_failure": job.stop_on_failure,
        "files_total": len(job.files),
        "files_sized": len(sizes),
        "bytes_sized": together(sum(sizes)),
        **_given(request_id=job.request_id, fingerprint=job.fingerprint, archive=job.archive, deadline=job.deadline),
    }


def file_parameters(job: NewJob, cipher: Seal) -> Iterator[dict[str, Any]]:
    """Yield the rows of a job's files for ``insert_jobs``, without the columns that are NULL.

    The files of an archive are one placement group, those of a dataset another; any other file is one of its own.
    """
    for index, file in enumerate(job.files):
        yield {
            "index": index,
            "leader": _leader(job, index, file),
            "source_host": source_host(file.source),
            **_source_columns(file.source, cipher),
            "destination": file.destination,
            "path": file.path,
            "naming": file.naming,
            **_given(
                target=_target(job, index, file),
                checksum=str(file.checksum) if file.checksum else None,
                expected_size=file.size,
            ),
        }


def _given(**columns: Any) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}


def notice_parameters(url: UrlSource, cipher: Seal) -> dict[str, Any]:
    """Return a notice's row for ``insert_jobs``, without the columns that are NULL."""
    return {"url": url.shown, "host": WebUrl.parse(url.url).authority, **_sealed("sealed", url, cipher)}


def notice(row: Row, cipher: Seal) -> Notice:
    """Return the notice of a row of ``claim_notices``; raises NoKey."""
    if row["sealed"] is not None:
        url = _opened(row["sealed"], cipher, NoKey("the notice's URL", "call jobs.renotify"))
    else:
        url = row["url"]
    return Notice(
        job=row["job"],
        id=row["id"],
        owner=row["owner"],
        url=UrlSource(url, row["url"]),
        host=row["host"],
        attempt=row["attempt"],
        lease=row["lease"],
        payload=row["payload"],
    )


def _leader(job: NewJob, index: int, file: NewFile) -> int:
    if job.archive:
        return 0
    return index - file.source.member if isinstance(file.source, DatasetSource) else index


def _target(job: NewJob, index: int, file: NewFile) -> str | None:
    if not job.archive:
        return known_target(file)
    return file.path if index == 0 and file.naming is Naming.EXACT else None


def _source_columns(source: SourceRef, cipher: Seal) -> dict[str, Any]:
    if isinstance(source, PlaceSource):
        return {"source_destination": source.destination, "source_path": source.path}
    if isinstance(source, DatasetSource):
        return {"source_url": source.url, "source_member": source.member}
    return {"source_url": source.shown, **_sealed("source_sealed", source, cipher)}


def _sealed(column: str, url: UrlSource, cipher: Seal) -> dict[str, str]:
    """Return the column with the encrypted URL, as the text of a bytea; none if all of the URL may be shown."""
    return {} if url.url == url.shown else {column: "\\x" + cipher.seal(url.url).hex()}


def transfer(row: Row, cipher: Seal) -> Transfer:
    """Return the transfer of a row of ``claim``, ``claim_leftovers`` or ``read_members``; raises NoKey."""
    return Transfer(
        id=row["id"],
        job=row["job"],
        index=row["index"],
        owner=row["owner"],
        source=_source(row, cipher),
        destination=row["destination"],
        path=row["path"],
        naming=Naming(row["naming"]),
        overwrite=Overwrite(row["overwrite"]),
        archive=row["archive"],
        checksum=Checksum.parse(row["checksum"]) if row["checksum"] else None,
        size=row["expected_size"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        stop_on_failure=row["stop_on_failure"],
        failures=row["failures"],
        checkpoint=Checkpoint(**row["checkpoint"]) if row["checkpoint"] else None,
        sent=row["bytes_done"],
        target=row["target"],
        cancelling=row["cancelling"],
        overdue=row["overdue"],
        memory=row["memory"] or {},
        placing=row["renaming"],
        lease=row["lease"],
        claims=row["claims"],
        started=row["started_at"].timestamp(),
        room_wanted=row["room_wanted"],
    )


def _source(row: Row, cipher: Seal) -> SourceRef:
    if row["source_destination"] is not None:
        return PlaceSource(row["source_destination"], row["source_path"])
    if row["source_member"] is not None:
        return DatasetSource(row["source_url"], row["source_member"])
    if row["source_sealed"] is None:
        return UrlSource(row["source_url"], row["source_url"])
    missing = NoKey("this file's URL", "call jobs.retry, or ask for the file again")
    return UrlSource(_opened(row["source_sealed"], cipher, missing), row["source_url"])


def _opened(sealed: Any, cipher: Seal, missing: NoKey) -> str:
    try:
        return cipher.open(bytes(sealed))
    except Exception as error:  # Any error: the value cannot be opened.
        raise missing from error


def shown_source(row: Row) -> str:
    """Return a row's source as it may be shown."""
    if row["source_destination"] is not None:
        return PlaceSource(row["source_destination"], row["source_path"]).shown
    return str(row["source_url"])


def progress_parameters(progress: Sequence[Progress]) -> list[dict[str, Any]]:
    """Return the parameter of ``progress``."""
    return [
        {
            "transfer": one.transfer,
            "lease": one.lease,
            "bytes_done": one.bytes_done,
            "size": one.size,
            "rate": one.rate,
            "stage": one.stage,
            "digest": one.digest,
            "checkpoint": checkpoint_column(one.checkpoint),
            "resumed": one.resumed,
        }
        for one in progress
    ]


def checkpoint_column(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """Return a checkpoint as rows store it."""
    return asdict(checkpoint) if checkpoint else None


def job(row: Row, waiting_for: str | None = None) -> JobRecord:
    """Return the job of a row of ``listing``."""
    sized = row["files_sized"] == row["files_total"]
    return JobRecord(
        id=row["id"],
        state=State(row["state"]),
        owner=row["owner"],
        label=row["label"],
        method=row["method"],
        archive=row["archive"],
        paused=row["paused"],
        priority=row["priority"],
        files_total=row["files_total"],
        files_completed=row["files_completed"],
        files_failed=row["files_failed"],
        bytes_total=row["bytes_sized"] if sized else None,
        bytes_done=row["bytes_settled"] + row["bytes_moving"],
        rate=row["rate"],
        stage=row["stage"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        next_retry_at=row["next_retry_at"],
        waiting_for=waiting_for,
        error=row["error"],
        first_error=row["first_error"],
        submitted_at=row["submitted_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def file(row: Row) -> FileRecord:
    """Return the file of a row of ``read_files``."""
    return FileRecord(
        index=row["index"],
        source=shown_source(row),
        destination=row["destination"],
        path=row["path"],
        state=State(row["state"]),
        size=row["size"],
        bytes_done=row["bytes_done"],
        rate=row["rate"],
        digest=row["digest"],
        attempt=row["attempt"],
        next_retry_at=row["next_retry_at"],
        error=row["error"],
        first_error=row["first_error"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def event(row: Row) -> Event:
    """Return the event of a row of ``read_events``."""
    return Event(row["cursor"], row["at"], row["job"], row["file"], row["kind"], row["details"])
