"""The statements for the status of one job, and of those that filters choose; the newest jobs and events.

Every figure of a job comes from its own row or from a partial index (running files, files to be tried again), so a job
of a hundred thousand files costs no more to look at than a job of one.
"""

from datetime import datetime
from typing import Any

from datamover.jobs import rows
from datamover.jobs.feed import Feed
from datamover.jobs.values import Event, JobRecord, State
from datamover.postgres.database import Database
from datamover.postgres.named_queries import QUERIES, Prepared

_COLUMNS = """
SELECT j.id, j.state, j.owner, j.label, j.method, j.archive, j.max_attempts, j.paused, j.priority, j.files_total,
       j.files_completed, j.files_failed, j.files_sized, j.bytes_sized, j.bytes_settled, j.error, j.first_error,
       j.submitted_at, j.started_at, j.finished_at,
       least(coalesce(moving.bytes, 0) + coalesce(again.bytes, 0), 9223372036854775807)::bigint AS bytes_moving,
       coalesce(moving.rate, 0) AS rate, moving.stage, CASE WHEN NOT j.paused THEN again.at END AS next_retry_at,
       least(coalesce(moving.attempt, again.attempt, first.attempt, 0), j.max_attempts) AS attempt"""
_JOBS = """
FROM jobs j
LEFT JOIN LATERAL (
    SELECT sum(t.bytes_done) AS bytes, sum(t.rate) AS rate, max(t.attempt) AS attempt,
           (array_agg(t.stage ORDER BY t.index) FILTER (WHERE t.stage IS NOT NULL))[1] AS stage
    FROM transfers t WHERE t.job = j.id AND t.state IN ('PREPARING', 'IN_PROGRESS')) moving
    ON j.finished_at IS NULL
LEFT JOIN LATERAL (
    SELECT sum(t.bytes_done) AS bytes, min(t.next_attempt_at) FILTER (WHERE t.room_wanted IS NULL) AS at,
           max(t.attempt) AS attempt
    FROM transfers t WHERE t.job = j.id AND t.state = 'PENDING' AND t.attempt > 0) again
    ON j.finished_at IS NULL
LEFT JOIN transfers first ON first.job = j.id AND first.index = 0
"""
_FILTERS = {
    "owner": "j.owner = %(owner)s",
    "state": "j.state = %(state)s",
    "label": "j.label = %(label)s",
    "destination": "EXISTS (SELECT FROM transfers d WHERE d.job = j.id AND d.destination = %(destination)s)",
    "before": "j.id < %(before)s",
    "since": "j.submitted_at >= %(since)s",
    "until": "j.submitted_at < %(until)s",
}
"""The condition of each filter."""
_STAYS = "(SELECT true FROM retiring r WHERE r.job = j.id) IS NULL"
"""Excludes jobs whose retention is over and whose rows are being removed."""
_ONE = f"WHERE {_STAYS} AND j.id = %(job)s AND (%(owner)s IS NULL OR j.owner = %(owner)s)"

JOB = Prepared(f"{_COLUMNS}{_JOBS}{_ONE}", "read_job", {"job": "integer", "owner": "text"})
"""One job; it is not found if ``owner`` is another one, unless that is None."""
STATUS = Prepared(
    f"""{_COLUMNS}, waiting.why AS waiting{_JOBS}
LEFT JOIN LATERAL (
    SELECT row_to_json(found) AS why FROM ({QUERIES["read_waiting"].rstrip(";")}) AS found
    WHERE j.finished_at IS NULL AND coalesce(moving.rate, 0) = 0 AND moving.stage IS NULL OFFSET 0) AS waiting ON true
{_ONE}""",  # noqa: S608 - made of constants
    "read_status",
    {**JOB.types, "counted": "integer", "lease": "double precision"},
)
"""``JOB`` with ``waiting``: the row of ``read_waiting``, a struct, None if nothing of the job waits or something moves.
It is one statement, since each more would cost the service as much again."""


def query(
    *,
    owner: str | None = None,
    state: State | None = None,
    label: str | None = None,
    destination: str | None = None,
    before: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1,
) -> tuple[str, dict[str, Any]]:
    """Return the statement and its parameters; the newest job comes first. A filter that is None is not applied."""
    parameters = {
        "owner": owner,
        "state": state.value if state else None,
        "label": label,
        "destination": destination,
        "before": before,
        "since": since,
        "until": until,
        "limit": limit,
    }
    used = [_STAYS, *(condition for name, condition in _FILTERS.items() if parameters[name] is not None)]
    return f"{_COLUMNS}{_JOBS}WHERE {' AND '.join(used)}\nORDER BY j.id DESC LIMIT %(limit)s", parameters


class Newest:
    """The newest jobs and events of everybody, as an operator looks for them.

    Every method raises Unavailable while the database is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feed = Feed(database, "read_horizon", "read_newest_events")

    async def jobs(
        self,
        owner: str | None = None,
        *,
        state: State | None = None,
        label: str | None = None,
        destination: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Return jobs, the newest first; those submitted at ``since`` or later, before ``until``."""
        found = query(
            owner=owner,
            state=state,
            label=label,
            destination=destination,
            since=since,
            until=until,
            limit=limit,
        )
        return [rows.job(row) for row in await self._database.read(*found)]

    async def events(self, *, job: int | None = None, limit: int = 100) -> list[Event]:
        """Return the end of the history of all jobs, or of one, the newest last."""
        found = await self._feed.read({"job": job, "limit": limit})
        return [rows.event(row) for row in reversed(found)]
