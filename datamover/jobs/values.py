"""The values of jobs: requests, and their state and progress.

A *job* is one request of a client; it has one *transfer* for each file. Transfers that must become visible together
form a *placement group*, led by one of them; a transfer on its own is a group of one. Engines claim, lease and retry
groups by their leader.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """The state of a job or a transfer."""

    PENDING = "PENDING"
    """Waiting for its first attempt, or (a transfer only) for its next one."""
    PREPARING = "PREPARING"
    """An archive or a dataset is being staged."""
    IN_PROGRESS = "IN_PROGRESS"
    """Bytes move; a job stays in this state from its first attempt until every file is terminal."""
    COMPLETED = "COMPLETED"
    """In place, whole and verified."""
    PARTIAL = "PARTIAL"
    """A job only: some files are in place, the others failed or were cancelled."""
    FAILED = "FAILED"
    """Given up; the first and the last error are stored."""
    CANCELLED = "CANCELLED"
    """Cancelled by the client."""

    @property
    def terminal(self) -> bool:
        """Whether no further change of state follows, unless the client retries the job."""
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETED, State.PARTIAL, State.FAILED, State.CANCELLED})


class Overwrite(StrEnum):
    """What to do if the target exists with other content."""

    NEVER = "never"
    """Fail with DESTINATION_EXISTS."""
    ALWAYS = "always"
    """Replace it, even if its content is the same."""
    IF_DIFFERENT = "if-different"
    """Replace it; a target with the same content is left as it is."""


class Naming(StrEnum):
    """How the target's path follows from the path of the request."""

    EXACT = "exact"
    """The path is the target's."""
    INTO = "into"
    """The path is a directory; the file keeps its source's name."""
    PROBE = "probe"
    """The path is a directory if one exists there, else the target's path, as with scp."""


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A URL that a client named. ``url`` may hold a signature in its query, so only ``shown`` may be shown."""

    url: str = field(repr=False)
    """In canonical form, see ``WebUrl``."""
    shown: str
    """The URL with the values of its query masked."""


@dataclass(frozen=True, slots=True)
class PlaceSource:
    """A file below a registered destination's root."""

    destination: str
    path: str

    @property
    def shown(self) -> str:
        return f"{self.destination}:{self.path}"


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """One file of a dataset. A dataset is made before it moves, and its files are one placement group."""

    url: str
    """The dataset's URL, such as ``ala://ala?lsid=…``; it holds no secret."""
    member: int
    """The file's number in the dataset, counted from 0."""

    @property
    def shown(self) -> str:
        return self.url


SourceRef = UrlSource | PlaceSource | DatasetSource


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest that the client expects."""

    algorithm: str
    """A name that hashlib knows: sha256, sha512, sha1, md5."""
    hexdigest: str
    """Lower case."""

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hexdigest}"

    @classmethod
    def parse(cls, text: str) -> "Checksum":
        """Read the result of ``str``."""
        algorithm, _, hexdigest = text.partition(":")
        return cls(algorithm, hexdigest)


@dataclass(frozen=True, slots=True)
class NewFile:
    """One file of a request that has been checked."""

    source: SourceRef
    destination: str
    path: str
    """The path below the destination's root; "" is the root itself."""
    naming: Naming
    checksum: Checksum | None = None
    size: int | None = None
    """The size in bytes that the client expects."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request that has been checked and can be stored."""

    owner: str
    files: tuple[NewFile, ...]
    overwrite: Overwrite = Overwrite.NEVER
    archive: str | None = None
    """The kind of archive that the files are packed into: "zip" (``jobs.submit``) or "bagit" (``move``)."""
    method: str = "jobs.submit"
    """The XML-RPC method that was called."""
    label: str = ""
    request_id: str | None = None
    fingerprint: str | None = None
    """A digest of the request; two requests with the same request_id must have the same."""
    max_attempts: int = 5
    priority: int = 3
    """1 to 5; 5 goes first."""
    deadline: float | None = None
    """Seconds from the submission."""
    stop_on_failure: bool = False
    """Whether a file that fails ends the job."""
    notify: UrlSource | None = None
    """The URL that receives the notice of the job's end."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The notice of a job's end, as claimed by an engine."""

    job: int
    id: str
    """The same for every attempt, so that the receiver can recognise a repetition."""
    owner: str
    url: UrlSource
    host: str
    """The receiver's host and port."""
    attempt: int
    """The number of the attempt, counted from 1."""
    lease: int
    """Fencing number: a newer claim has a greater one."""
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission: the job is on disk."""

    id: int
    state: State
    created: bool
    """Whether this request made the job; False: an earlier one with the same request_id did."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The part of a file that an earlier attempt has stored."""

    part: str
    """The upload's token, opaque; of a part file its path below the root."""
    identity: str
    """The identity that the source had."""
    offset: int
    """The number of bytes, from the beginning of the file, that were flushed."""
    digest: str
    """sha256 of those bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file of a job, as an engine sees it that holds its lease."""

    id: int
    job: int
    index: int
    owner: str
    source: SourceRef
    destination: str
    path: str
    naming: Naming
    overwrite: Overwrite
    archive: str | None
    checksum: Checksum | None
    size: int | None
    attempt: int
    """The number of this attempt, counted from 1; an attempt that resumes an interrupted one has its number."""
    max_attempts: int
    stop_on_failure: bool
    failures: int
    """Attempts that count: those that moved nothing forward, or whose bytes were wrong."""
    checkpoint: Checkpoint | None
    sent: int
    """Bytes that the previous attempt transferred, stored or not."""
    target: str | None
    """The target's path, once it is known."""
    cancelling: bool
    """Whether the client cancelled it; then only its leftovers are to be removed."""
    overdue: bool
    """Whether its job's deadline has passed; then only its leftovers are to be removed."""
    memory: Mapping[str, Any]
    """State that the makers of datasets store, by the dataset's URL; only the leader's is used."""
    placing: bool
    """Whether the whole group was verified and its placing had begun; then it is rolled forward."""
    lease: int
    """Fencing number: a newer claim has a greater one, the first has 1."""
    claims: int
    """How often it was claimed since a client submitted or retried it, this time included."""
    started: float
    """When the first attempt began, in POSIX seconds; it is stored before the attempt asks anything of a server."""
    room_wanted: int | None = None
    """The bytes for which its group waited for room; 0: their number was not known. None: it did not wait."""

    @property
    def staged(self) -> bool:
        """Whether it belongs to an archive or a dataset, which is made before it moves."""
        return self.archive is not None or isinstance(self.source, DatasetSource)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a running transfer."""

    transfer: int
    lease: int
    bytes_done: int
    size: int | None
    rate: float
    """Bytes a second."""
    stage: str
    digest: str | None
    """The digest in the form that clients see, ``sha256:…``; None: not known yet."""
    checkpoint: Checkpoint | None
    resumed: Mapping[str, int] | None = None
    """The details of the event that tells where this attempt resumes; None: no event, or it was written before."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as its status call returns it; None means "does not apply"."""

    id: int
    state: State
    owner: str
    label: str
    method: str
    archive: str | None
    paused: bool
    priority: int
    files_total: int
    files_completed: int
    files_failed: int
    bytes_total: int | None
    bytes_done: int
    rate: float
    stage: str | None
    attempt: int
    max_attempts: int
    next_retry_at: datetime | None
    waiting_for: str | None
    error: Mapping[str, Any] | None
    first_error: Mapping[str, Any] | None
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A transfer as ``jobs.files`` returns it."""

    index: int
    source: str
    destination: str
    path: str
    state: State
    size: int | None
    bytes_done: int
    rate: float
    digest: str | None
    attempt: int
    next_retry_at: datetime | None
    error: Mapping[str, Any] | None
    first_error: Mapping[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the append-only history."""

    cursor: int
    at: datetime
    job: int
    file: int | None
    kind: str
    details: Mapping[str, Any]
