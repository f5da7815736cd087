"""The values of the queue: what engines work on, how attempts end, and how rows store that. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from datamover.errors import DataMoverError
from datamover.jobs.rows import checkpoint_column
from datamover.jobs.values import Checkpoint, State, Transfer
from datamover.postgres.database import Row

SWEEPING = 60.0
"""Seconds between two attempts to remove an ended transfer's leftovers; one attempt may take as long."""
_KINDS = {State.COMPLETED: "completed", State.FAILED: "failed", State.CANCELLED: "cancelled", State.PENDING: "retrying"}


@dataclass(frozen=True, slots=True)
class Group:
    """A placement group whose lease this node holds: the leader first, then its members by index."""

    transfers: tuple[Transfer, ...]

    @property
    def leader(self) -> Transfer:
        return self.transfers[0]


class StopReason(Enum):
    """Why a running transfer is to stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    OVERDUE = "overdue"
    """The job's deadline has passed."""


@dataclass(frozen=True, slots=True)
class Remark:
    """The kind and the details of an event."""

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    leader: Transfer
    state: State
    """COMPLETED, FAILED, CANCELLED, or PENDING if it is to be tried again."""
    failures: int
    pause: float = 0.0
    """Seconds before the next attempt."""
    error: DataMoverError | None = None
    checkpoint: Checkpoint | None = None
    placing: bool = False
    """Whether the group had begun to place its files; the next attempt rolls that forward."""
    bytes_done: int = 0
    size: int | None = None
    digest: str | None = None
    """The digest in the form that clients see: ``sha256:…``."""
    remarks: tuple[Remark, ...] = ()
    """Further events of the file, written before the one of its end."""
    cleaned: bool = True
    """Whether nothing is left at the destination; leftovers are swept once the transfer has ended."""
    room_wanted: int | None = None
    """PENDING: the bytes for which it waits for room, 0 where their number is not known. None: it does not wait."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A verified file of a group, which is an upload until it is committed."""

    transfer: Transfer
    target: str
    size: int
    digest: str
    """The digest in the form that clients see."""
    checkpoint: Checkpoint | None
    """The whole upload; None: the file is in place already."""
    own: bool
    """Whether size and digest are the transfer's own; False: they are the archive's, which is the group's one file."""


def fence(node: str, held: Sequence[Transfer]) -> dict[str, Any]:
    """Return the parameters that restrict a statement to transfers whose leases a node still holds."""
    return {"node": node, "transfers": [one.id for one in held], "leases": [one.lease for one in held]}


def ended(outcome: Outcome, now: datetime, *, paused: bool) -> Remark:
    """Return the event of an attempt that has ended; ``now`` is the database's time."""
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
    """Return an error as rows store it; ``at`` is the database's time."""
    return {**error.as_dict(), "attempt": attempt, "at": _told(at)}


def stop_reason(row: Row) -> StopReason | None:
    """Return the reason in a row of ``renew`` or ``read_stopping``; None: the transfer goes on."""
    if row["cancelling"]:
        return StopReason.CANCEL
    if row["overdue"]:
        return StopReason.OVERDUE
    return StopReason.PAUSE if row["paused"] else None


def placement_columns(one: Placement) -> dict[str, Any]:
    """Return a row of the parameter of ``set_placing``."""
    return {
        "transfer": one.transfer.id,
        "target": one.target,
        "size": one.size if one.own else None,
        "digest": one.digest if one.own else None,
        "checkpoint": checkpoint_column(one.checkpoint),
    }


def outcome_columns(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return a row of the parameter of ``settle``; ``now`` is the database's time."""
    leader, error = outcome.leader, outcome.error
    return {
        "job": leader.job,
        "leader": leader.index,
        "state": outcome.state,
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
