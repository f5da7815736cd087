"""The query for the status of jobs, the only one whose text depends on its filters, and the newest jobs and events.

Every figure of a job comes from its own row or from a partial index (running files, files to be tried again), so a job
of a hundred thousand files costs no more to look at than a job of one.
"""

from datetime import datetime
from typing import Any

from datamover.jobs import rows
from datamover.jobs.feed import Feed
from datamover.jobs.values import Event, JobRecord, State
from datamover.postgres.database import Database

_SELECT = """
SELECT j.id, j.state, j.owner, j.label, j.method, j.archive, j.max_attempts, j.paused, j.priority, j.files_total,
       j.files_completed, j.files_failed, j.files_sized, j.bytes_sized, j.bytes_settled, j.error, j.first_error,
       j.submitted_at, j.started_at, j.finished_at,
       least(coalesce(moving.bytes, 0) + coalesce(again.bytes, 0), 9223372036854775807)::bigint AS bytes_moving,
       coalesce(moving.rate, 0) AS rate, moving.stage, CASE WHEN NOT j.paused THEN again.at END AS next_retry_at,
       least(coalesce(moving.attempt, again.attempt, first.attempt, 0), j.max_attempts) AS attempt
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
    "ids": "j.id = ANY (%(ids)s)",
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


def query(
    *,
    ids: list[int] | None = None,
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
        "ids": ids,
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
    return f"{_SELECT}WHERE {' AND '.join(used)}\nORDER BY j.id DESC LIMIT %(limit)s", parameters


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
