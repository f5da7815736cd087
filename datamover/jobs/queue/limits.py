"""The limits of the queue, and why a transfer waits, as a sentence. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from datamover.jobs.endpoints import host_of, place_of, server_of
from datamover.jobs.queue import room
from datamover.postgres.database import Row
from datamover.text.quantities import count
from datamover.text.redaction import ANOTHER_CLIENTS_JOB, visible_breaker_error

COUNTED = 100
"""The transfers ahead of another one are counted up to this number."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one owner; None: no limit of its own."""

    queued: int | None = None
    """Files that may wait."""
    max_active: int | None = None
    """Transfers that may be active."""
    bytes_per_day: int | None = None
    """Bytes of files that were completed in the last 24 hours, and of those that move."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many transfers may be active at a time, over all processes, and how many files may wait."""

    destinations: Mapping[str, int] = field(default_factory=dict)
    """The limit of each registered destination."""
    total: int = 256
    per_owner: int = 128
    per_source_host: int = 32
    queued: int = 1_000_000
    """Files that may wait; submissions beyond that are refused."""
    owners: Mapping[str, Quota] = field(default_factory=dict)
    """The limits of owners that have limits of their own."""

    def quota(self, owner: str) -> Quota:
        """Return an owner's limits."""
        return self.owners.get(owner, Quota())

    def active_of(self, owner: str) -> int:
        """Return the number of transfers of an owner that may be active."""
        own = self.quota(owner).max_active
        return self.per_owner if own is None else min(own, self.per_owner)

    def bytes_per_day(self) -> dict[str, int]:
        """Return the bytes per day of the owners with that limit."""
        found = {owner: quota.bytes_per_day for owner, quota in self.owners.items()}
        return {owner: most for owner, most in found.items() if most is not None}


def waiting_for(row: Row, bounds: QueueLimits, moved: int = 0, *, administrator: bool = True) -> str:
    """Return why a transfer waits, from a row of ``read_waiting``; ``moved`` is its owner's bytes of the last 24 hours.

    Only administrators see other owners' jobs and errors; for others ``behind`` must be 0 if it is another owner's job.
    """
    for name in (row["destination"], place_of(row["source_host"])):
        if name is not None and name not in bounds.destinations:
            return f"destination {name}: no longer in the configuration"
    more = " or more" if row["ahead"] >= COUNTED else ""
    ahead = f", {min(row['ahead'], COUNTED)}{more} ahead" if row["ahead"] else ""
    return (
        _stopped(row, bounds)
        or _broken(row, administrator)
        or (None if row["room_wanted"] is None else room.told(row))
        or _spent(row, bounds, moved)
        or _full(row, bounds, ahead)
        or _behind(row["behind"])
        or f"an engine to take it up{ahead}"
    )


def _stopped(row: Row, bounds: QueueLimits) -> str | None:
    """Return a reason that a person must remove."""
    if row["paused"]:
        return "jobs.resume: the job is paused"
    if row["held"] is not None:
        return f"destination {row['destination']}: held: {row['held']}"
    if row["engines"]:
        return None
    if row["draining"]:
        return "an engine: those that run are draining"
    return "an engine: no process with the role 'engine' is running"


def _behind(job: int | None) -> str | None:
    if job is None:
        return None
    return f"{f'job {job}' if job else ANOTHER_CLIENTS_JOB}, which has the same target"


def _broken(row: Row, administrator: bool) -> str | None:
    """Return a failure that is tried again later."""
    if row["closed"]:
        why = _told(row["closed_error"], administrator)
        return f"destination {row['destination']}: {why}; next probe {_in(row['closed_for'])}"
    if row["source_closed"]:
        server, why = server_of(row["source_host"]), _told(row["source_error"], administrator)
        return f"source {server}: {why}; next probe {_in(row['source_closed_for'])}"
    if row["pausing"]:
        code = (row["error"] or {}).get("code", "an error")
        return f"the next attempt, {_in(row['pausing_for'])}, after {code}"
    return None


def _spent(row: Row, bounds: QueueLimits, moved: int) -> str | None:
    """Return that the owner has used the bytes of the day."""
    most = bounds.quota(row["owner"]).bytes_per_day
    if most is None or moved < most:
        return None
    return f"client {row['owner']}: {count(moved, 'byte')} moved in the last 24 hours, and bytes_per_day allows {most}"


def _full(row: Row, bounds: QueueLimits, ahead: str) -> str | None:
    """Return a limit that other transfers have reached."""
    for what, active, most in (
        (f"destination {row['destination']}", row["active"], bounds.destinations[row["destination"]]),
        (f"source {host_of(row['source_host'])}", row["host_active"], bounds.per_source_host),
        (f"owner {row['owner']}", row["owner_active"], bounds.active_of(row["owner"])),
        ("the service", row["total"], bounds.total),
    ):
        if active >= most:
            return f"{what}: {active} of {count(most, 'transfer')} active{ahead}"
    return None


def _told(error: Mapping[str, str] | None, administrator: bool) -> str:
    told = visible_breaker_error(error, administrator=administrator)
    return told["message"] if told else "not reachable"


def _in(seconds: float) -> str:
    return f"in {max(1, round(seconds))} s"
