"""Rows of a full house: how soon calls are answered and work begins with a million jobs stored, a tenth queued."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xmlrpc.client import ServerProxy

import psycopg2
from psycopg2.extensions import make_dsn

from benchmarks.field import Field
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale
from datamover.postgres.embedded.cluster import PORT, Cluster

MANY, FEW = 1_000_000, 1000
QUEUED_SHARE = 10
"""One in so many of the stored jobs waits in the queue."""
ROOM = 2
"""Transfers that the destination of all that waits takes at once."""
CALLS = 3000
STARTS = 200
EMPTY = f"with {FEW:,} stored"

FILL = """
WITH made AS (
    INSERT INTO jobs (owner, method, label, overwrite, max_attempts, priority, stop_on_failure, state, files_total,
                      files_completed, files_sized, bytes_sized, bytes_settled, submitted_at, started_at, finished_at)
    SELECT 'client ' || n %% 50, 'jobs.submit', '', 'never', 5, 3, false,
           CASE WHEN n %% %(share)s = 0 THEN 'PENDING' ELSE 'COMPLETED' END, 1,
           (n %% %(share)s <> 0)::integer, 1, 10000, 10000, now(), now(),
           CASE WHEN n %% %(share)s <> 0 THEN now() END
    FROM generate_series(1, %(count)s) n
    RETURNING id, owner, state
), moved AS (
    INSERT INTO transfers (job, index, owner, priority, source_host, leader, source_url, destination, path, naming,
                           target, state, attempt, size, bytes_done, digest, started_at, finished_at)
    SELECT id, 0, owner, 3, 'web 127.0.0.1', 0, 'http://127.0.0.1:1/' || id, 'full', 'full/' || id, 'exact',
           'full/' || id, state, (state <> 'PENDING')::integer, 10000, 10000, 'sha256:0', now(),
           CASE WHEN state <> 'PENDING' THEN now() END
    FROM made RETURNING job, owner, state
)
INSERT INTO events (job, owner, file, kind, details)
SELECT job, owner, NULL, kind, '{"files": 1}'
FROM moved CROSS JOIN unnest(ARRAY['submitted', 'started', 'completed']) AS kind
WHERE state <> 'PENDING' OR kind = 'submitted'
"""


def status(scale: Scale) -> Result:
    """The 99th percentile of ``jobs.status``, over jobs of all ages, one client."""
    values: dict[str, list[float]] = {}
    for way, count in ((OURS, scale.count(MANY)), (EMPTY, FEW)):
        with _runtime(count) as (field, mover):
            ids = _ids(field)
            values[way] = []
            for _ in range(scale.rounds):
                seconds = [_timed(mover, ids[(call * 7919) % len(ids)]) for call in range(CALLS)]
                values[way].append(1000 * statistics.quantiles(seconds, n=100)[98])
    title = f"`jobs.status`, 99th percentile, {scale.count(MANY):,} jobs stored"
    return Result("stored-status", title, "ms", values, [Goal(EMPTY, at_most=1.5)])


def start(scale: Scale) -> Result:
    """The 99th percentile of the time from a job's submission to its transfer's start, one after another."""
    values: dict[str, list[float]] = {}
    for way, count in ((OURS, scale.count(MANY)), (EMPTY, FEW)):
        with _runtime(count) as (field, mover):
            field.file(field.web_root / "tiny", 100)
            values[way] = []
            for turn in range(scale.rounds):
                jobs = []
                for number in range(STARTS):
                    request = {"source": f"{field.nginx.url}/tiny", "destination": "here", "path": f"{turn}/{number}"}
                    jobs.append(mover.jobs.submit(request)["id"])
                    mover.jobs.wait(jobs[-1], 60)
                values[way].append(1000 * _p99_of_starts(field, jobs))
    title = f"submission → start, 99th percentile, {scale.count(MANY):,} jobs stored"
    return Result("stored-start", title, "ms", values, [Goal(EMPTY, at_most=1.5)])


@contextmanager
def _runtime(count: int) -> Iterator[tuple[Field, Any]]:
    """A service with so many jobs; those that wait are for a destination that has no room for more."""
    with Field(
        f'[limits]\nqueued = 100_000_000\n[destinations.full]\nurl = "file://HERE"\nmax_active = {ROOM}\n'
    ) as field:
        _fill(field, count)
        with ServerProxy(field.service.url) as mover:
            yield field, mover


def _fill(field: Field, count: int) -> None:
    """Store finished and waiting jobs; what waits is for a destination that is busy for as long as it lasts."""
    with ServerProxy(field.service.url) as mover:
        field.file(field.web_root / "slow/long", 10_000_000)
        url = f"{field.nginx.url}/slow/long"
        busy = [{"source": url, "destination": "full", "path": f"busy/{number}"} for number in range(ROOM)]
        mover.jobs.submit({"files": busy, "priority": 5})
    with _connection(field) as connection, connection.cursor() as cursor:
        cursor.execute(FILL, {"count": count, "share": QUEUED_SHARE})
        connection.commit()
        connection.autocommit = True
        for table in ("jobs", "transfers", "events"):
            cursor.execute(f"VACUUM ANALYZE {table}")
        cursor.execute("CHECKPOINT")


def _ids(field: Field) -> list[int]:
    with _connection(field) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM jobs ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def _p99_of_starts(field: Field, jobs: list[int]) -> float:
    with _connection(field) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - submitted_at)) "
            "FROM jobs WHERE id = ANY (%s)",
            (jobs,),
        )
        (seconds,) = cursor.fetchone() or (0.0,)
        return float(seconds)


@contextmanager
def _connection(field: Field) -> Iterator[Any]:
    server = Cluster(field.service.directory / "data").server()
    assert server is not None
    connection = psycopg2.connect(make_dsn(host=str(server.sockets), port=PORT, user="datamover", dbname="postgres"))
    try:
        yield connection
    finally:
        connection.close()


def _timed(mover: Any, job: int) -> float:
    start = time.perf_counter()
    mover.jobs.status(job)
    return time.perf_counter() - start
