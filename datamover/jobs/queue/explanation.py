"""Why a transfer waits, as a sentence. Pure."""

from collections.abc import Mapping

from datamover.jobs.endpoints import host_of, place_of, server_of
from datamover.jobs.queue import room
from datamover.jobs.queue.limits import QueueLimits
from datamover.postgres.database import Row
from datamover.text.quantities import count
from datamover.text.redaction import ANOTHER_CLIENTS_JOB, visible_breaker_error

COUNTED = 100
"""The transfers ahead of another one are counted up to this number."""


def waiting_for(row: Row, limits: QueueLimits, moved: int = 0, *, administrator: bool = True) -> str:
    """Return why a transfer waits, from a row of ``read_waiting``; ``moved`` is its owner's bytes of the last 24 hours.

    Only administrators see other owners' jobs and errors; for others ``behind`` must be 0 if it is another owner's job.
    """
    for name in (row["destination"], place_of(row["source_host"])):
        if name is not None and name not in limits.destinations:
            return f"destination {name}: no longer in the configuration"
    more = " or more" if row["ahead"] >= COUNTED else ""
    ahead = f", {min(row['ahead'], COUNTED)}{more} ahead" if row["ahead"] else ""
    return (
        _stopped(row)
        or _broken(row, administrator)
        or (None if row["room_wanted"] is None else room.told(row))
        or _over_quota(row, limits, moved)
        or _full(row, limits, ahead)
        or _behind(row["behind"])
        or f"an engine to take it up{ahead}"
    )


def _stopped(row: Row) -> str | None:
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


def _over_quota(row: Row, limits: QueueLimits, moved: int) -> str | None:
    """Return that the owner has used the bytes of the day."""
    most = limits.quota(row["owner"]).bytes_per_day
    if most is None or moved < most:
        return None
    return f"client {row['owner']}: {count(moved, 'byte')} moved in the last 24 hours, and bytes_per_day allows {most}"


def _full(row: Row, limits: QueueLimits, ahead: str) -> str | None:
    """Return a limit that other transfers have reached."""
    there, thence = limits.destinations[row["destination"]], limits.per_source_host
    place, host, owner = f"destination {row['destination']}", f"source {host_of(row['source_host'])}", row["owner"]
    for what, active, most, whose in (
        (place, row["active"], there, ""),
        (place, row["own_active"], limits.one_of(there), f" of owner {owner}"),
        (host, row["host_active"], thence, ""),
        (host, row["own_host_active"], limits.one_of(thence), f" of owner {owner}"),
        (f"owner {owner}", row["owner_active"], limits.active_of(owner), ""),
        ("the service", row["total"], limits.total, ""),
        ("each engine", row["here"], limits.here, ""),
        ("each engine", row["own_here"], limits.one_of(limits.here), f" of owner {owner}"),
    ):
        if active >= most:
            return f"{what}: {active} of {count(most, 'transfer')}{whose} active{ahead}"
    return None


def _told(error: Mapping[str, str] | None, administrator: bool) -> str:
    told = visible_breaker_error(error, administrator=administrator)
    return told["message"] if told else "not reachable"


def _in(seconds: float) -> str:
    return f"in {max(1, round(seconds))} s"
