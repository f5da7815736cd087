"""The values of the queue: what is worked on, how it ends, and how rows keep that. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from datamover.errors import DataMoverError
from datamover.jobs.rows import Row, checkpoint_column
from datamover.jobs.values import Checkpoint, State, Transfer

SWEEPING = 60.0
"""Seconds between two attempts to remove what is left of a transfer that has ended; and that one of them may take."""
_KINDS = {State.COMPLETED: "completed", State.FAILED: "failed", State.CANCELLED: "cancelled", State.PENDING: "retrying"}


@dataclass(frozen=True, slots=True)
class Group:
    """A placement group whose lease we hold: the leader first, then its members by index."""

    transfers: tuple[Transfer, ...]

    @property
    def leader(self) -> Transfer:
        return self.transfers[0]


class StopReason(Enum):
    """What a job wants of a transfer that runs."""

    CANCEL = "cancel"
    PAUSE = "pause"
    OVERDUE = "overdue"
    """Its deadline has passed."""


@dataclass(frozen=True, slots=True)
class Remark:
    """An event of a file's own, told with the outcome of its attempt."""

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    leader: Transfer
    state: State
    """COMPLETED, FAILED, CANCELLED, or PENDING: to be tried again."""
    failures: int
    pause: float = 0.0
    """Seconds before the next attempt."""
    error: DataMoverError | None = None
    checkpoint: Checkpoint | None = None
    placing: bool = False
    """The renames of the group had begun, and are to be gone on with."""
    bytes_done: int = 0
    size: int | None = None
    digest: str | None = None
    """As clients are told it: ``sha256:…``."""
    remarks: tuple[Remark, ...] = ()
    cleaned: bool = True
    """False: something is left at the destination that nobody goes on from; it is swept once the transfer has ended."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A file of a group that is verified and waits, as a part file, for its name."""

    transfer: Transfer
    target: str
    size: int
    digest: str
    """As clients are told it."""
    checkpoint: Checkpoint | None
    """The whole of the part file; None: the file is in place already."""
    own: bool
    """False: size and digest are those of the group's one file (an archive), not of the transfer's own."""


def ended(outcome: Outcome, now: datetime, *, paused: bool) -> Remark:
    """Return the event of an attempt that has ended, by the database's clock ``now``."""
    details: dict[str, Any] = {}
    if outcome.state is State.COMPLETED:
        details = {"size": outcome.size, "digest": outcome.digest}
    if outcome.error is not None:
        details["error"] = outcome.error.as_dict()
    if outcome.state is State.PENDING and not paused:
        details["next_retry_at"] = _told(now + timedelta(seconds=outcome.pause))
    return Remark(_KINDS[outcome.state], details)


def _told(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def error_column(error: DataMoverError, *, attempt: int, at: datetime) -> dict[str, Any]:
    """Return an error as rows keep it; ``at``: by the database's clock."""
    return {**error.as_dict(), "attempt": attempt, "at": _told(at)}


def stop_reason(row: Row) -> StopReason | None:
    """Return what ``renew`` and ``read_stopping`` told."""
    if row["cancelling"]:
        return StopReason.CANCEL
    if row["overdue"]:
        return StopReason.OVERDUE
    return StopReason.PAUSE if row["paused"] else None


def placement_columns(one: Placement) -> dict[str, Any]:
    """Return what ``set_placing`` asks for."""
    return {
        "transfer": one.transfer.id,
        "target": one.target,
        "size": one.size if one.own else None,
        "digest": one.digest if one.own else None,
        "checkpoint": checkpoint_column(one.checkpoint),
    }


def outcome_columns(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return what ``settle`` asks for, ``now`` by the database's clock."""
    leader, error = outcome.leader, outcome.error
    return {
        "job": leader.job,
        "leader": leader.index,
        "state": outcome.state.value,
        "failures": outcome.failures,
        "pause": SWEEPING if outcome.state.terminal and not outcome.cleaned else outcome.pause,
        "cleaned": outcome.cleaned,
        "error": error_column(error, attempt=leader.attempt, at=now) if error else None,
        "checkpoint": checkpoint_column(outcome.checkpoint),
        "renaming": outcome.placing,
        "bytes_done": outcome.bytes_done,
        "size": outcome.size,
        "digest": outcome.digest,
    }
