"""The values of jobs: what was asked, and how far it is.

A *job* is what a client asked; it has one *transfer* for each file. Transfers that must become visible together
form a *placement group*, led by one of them; a transfer on its own is a group of one. The leader is what an
engine claims, leases and retries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class State(Enum):
    """Where a job or a transfer stands."""

    PENDING = "PENDING"
    """Waiting for its first, or (a transfer) its next, attempt."""
    PREPARING = "PREPARING"
    """Something is being staged: an archive, a dataset."""
    IN_PROGRESS = "IN_PROGRESS"
    """Bytes move; a job stays here from its first attempt until every file is terminal."""
    COMPLETED = "COMPLETED"
    """In place, whole and verified."""
    PARTIAL = "PARTIAL"
    """A job only: some files are in place, some are not and never will be."""
    FAILED = "FAILED"
    """Given up, with the first and the last error told."""
    CANCELLED = "CANCELLED"
    """The client's word."""

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETED, State.PARTIAL, State.FAILED, State.CANCELLED})


class Overwrite(Enum):
    """What to do where the target exists with other content."""

    NEVER = "never"
    """DESTINATION_EXISTS."""
    ALWAYS = "always"
    """Replace without looking."""
    IF_DIFFERENT = "if-different"
    """Replace; the same content is left alone."""


class Naming(Enum):
    """How a transfer's path becomes its target's."""

    EXACT = "exact"
    """The path is the file's."""
    INTO = "into"
    """The path is a directory; the file keeps its source's name."""
    PROBE = "probe"
    """A directory if there is one of that name, else the file's path (what scp did)."""


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A URL that a client named. ``url`` may hold a signature in its query: show ``shown``, never this."""

    url: str = field(repr=False)
    shown: str


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
    """One file of a dataset, which is made before it moves: its files are one placement group."""

    url: str
    """Such as ``ala://ala?lsid=…``; holds no secret."""
    member: int
    """Which of the dataset's files, counted from 0."""

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
        """Read what ``str`` of a checksum gives."""
        algorithm, _, hexdigest = text.partition(":")
        return cls(algorithm, hexdigest)


@dataclass(frozen=True, slots=True)
class NewFile:
    """One file of a request, checked."""

    source: SourceRef
    destination: str
    path: str
    """Below the destination's root; "" is the root itself."""
    naming: Naming
    checksum: Checksum | None = None
    size: int | None = None
    """Bytes that the client expects."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request, checked, ready to be stored."""

    owner: str
    files: tuple[NewFile, ...]
    overwrite: Overwrite = Overwrite.NEVER
    archive: str | None = None
    """None, "zip" (what ``jobs.submit`` makes) or "bagit" (what ``move`` makes)."""
    method: str = "jobs.submit"
    """The call that made it."""
    label: str = ""
    request_id: str | None = None
    fingerprint: str | None = None
    """What two requests with the same request_id must agree in."""
    max_attempts: int = 5
    priority: int = 3
    """1 to 5, 5 first."""
    deadline: float | None = None
    """Seconds from the submission."""
    stop_on_failure: bool = False
    """A file that fails ends the job."""
    notify: UrlSource | None = None
    """Who is to be told of the job's end."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a client is to be told of a job's end, as an engine that has claimed it sees it."""

    job: int
    id: str
    """The same for every attempt: the receiver knows a repetition by it."""
    owner: str
    url: UrlSource
    host: str
    """With its port."""
    attempt: int
    """Counted from 1."""
    lease: int
    """Fencing number: a newer claim has a greater one."""
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission: the job is on disk."""

    id: int
    state: State
    created: bool
    """False: the same request_id had made it before."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far an earlier attempt is known to have come."""

    part: str
    """The upload's token, opaque; of a part file its path below the root."""
    identity: str
    """The source's, when it was read."""
    offset: int
    """Bytes, contiguous from 0, that were flushed."""
    digest: str
    """sha256 of those bytes, hex."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file on its way, as an engine that holds its lease sees it."""

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
    """Counted from 1: those that were used up, and this one. Whoever goes on with one goes on with its number."""
    max_attempts: int
    stop_on_failure: bool
    failures: int
    """Attempts that used one up: those that moved nothing forward, or that were worthless."""
    checkpoint: Checkpoint | None
    sent: int
    """Bytes that the attempt before is known to have brought, kept or not."""
    target: str | None
    """The resolved path, once it is known."""
    cancelling: bool
    """The client cancelled it: only what it left is still to be removed."""
    overdue: bool
    """Its job's deadline has passed: likewise."""
    memory: Mapping[str, Any]
    """What the makers of datasets remember, by the dataset's URL; the leader's."""
    placing: bool
    """Everything of the group was verified and the renames had begun: roll forward."""
    lease: int
    """Fencing number: a newer claim has a greater one, the first has 1."""

    @property
    def staged(self) -> bool:
        """Whether something must be made before it moves: it leads (or is in) a group that is made together."""
        return self.archive is not None or isinstance(self.source, DatasetSource)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running transfer is; written in batches."""

    transfer: int
    lease: int
    bytes_done: int
    size: int | None
    rate: float
    """Bytes a second."""
    stage: str
    digest: str | None
    """As clients are told it, once it is known: ``sha256:…``."""
    checkpoint: Checkpoint | None
    resumed: Mapping[str, int] | None = None
    """What the history is told of where this attempt goes on from; None: nothing, or nothing more."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as its status call tells it; None is "does not apply"."""

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
    """A transfer as ``jobs.files`` tells it."""

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
    """One line of the append-only history."""

    cursor: int
    at: datetime
    job: int
    file: int | None
    kind: str
    details: Mapping[str, Any]
