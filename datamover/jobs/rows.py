"""Rows of the database <-> the values of jobs.

Pure: what a column means is written here and nowhere else. The queries themselves stand in queries.sql.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from datamover.web.amounts import together
from datamover.web.url import WebUrl

Row = Mapping[str, Any]


class NoKey(InternalError):
    """What a row holds sealed is opened by none of the keys that there are."""

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(
            f"the key that {what} was sealed with is missing (service.key_file): have the operator restore it, "
            f"and then {way_out}"
        )


class Seal(Protocol):
    """Keeps what a row must not tell."""

    def seal(self, text: str) -> bytes: ...

    def open(self, sealed: bytes) -> str: ...


def job_parameters(job: NewJob) -> dict[str, Any]:
    """Return what ``insert_jobs`` asks for, without what is NULL."""
    sizes = [file.size for file in job.files if file.size is not None]
    return {
        "owner": job.owner,
        "method": job.method,
        "label": job.label,
        "overwrite": job.overwrite.value,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "stop_on_failure": job.stop_on_failure,
        "files_total": len(job.files),
        "files_sized": len(sizes),
        "bytes_sized": together(sum(sizes)),
        **_given(request_id=job.request_id, fingerprint=job.fingerprint, archive=job.archive, deadline=job.deadline),
    }


def file_parameters(job: NewJob, cipher: Seal) -> Iterator[dict[str, Any]]:
    """Yield what ``insert_jobs`` asks for of files, likewise.

    An archive is one placement group, any other file one of its own.
    """
    for index, file in enumerate(job.files):
        yield {
            "index": index,
            "leader": _leader(job, index, file),
            "source_host": source_host(file.source),
            **_source_columns(file.source, cipher),
            "destination": file.destination,
            "path": file.path,
            "naming": file.naming.value,
            **_given(
                target=_target(job, index, file),
                checksum=str(file.checksum) if file.checksum else None,
                expected_size=file.size,
            ),
        }


def _given(**columns: Any) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}


def notice_parameters(url: UrlSource, cipher: Seal) -> dict[str, Any]:
    """Return what ``insert_jobs`` asks for of whom to tell, likewise."""
    return {"url": url.shown, "host": WebUrl.parse(url.url).authority, **_sealed("sealed", url, cipher)}


def notice(row: Row, cipher: Seal) -> Notice:
    """Return what ``claim_notices`` gave; raises NoKey."""
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
    """Return the whole URL, encrypted, as the text of a bytea; nothing where all of it may be shown."""
    return {} if url.url == url.shown else {column: "\\x" + cipher.seal(url.url).hex()}


def transfer(row: Row, cipher: Seal) -> Transfer:
    """Return what a claim or ``read_members`` gave; raises NoKey."""
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
    except Exception as error:  # Whatever it is, what is sealed stays so.
        raise missing from error


def shown_source(row: Row) -> str:
    """Return a row's source as it may be told."""
    if row["source_destination"] is not None:
        return PlaceSource(row["source_destination"], row["source_path"]).shown
    return str(row["source_url"])


def progress_parameters(news: Sequence[Progress]) -> list[dict[str, Any]]:
    """Return what ``progress`` asks for."""
    return [asdict(one) for one in news]


def checkpoint_column(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    return asdict(checkpoint) if checkpoint else None


def job(row: Row, waiting_for: str | None = None) -> JobRecord:
    """Return what ``listing`` read."""
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
    """Return what ``read_files`` read."""
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
    """Return what ``read_events`` read."""
    return Event(row["cursor"], row["at"], row["job"], row["file"], row["kind"], row["details"])
