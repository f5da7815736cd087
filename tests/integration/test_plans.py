"""How PostgreSQL does what is asked again and again: by looking rows up, whatever it knows of the tables."""

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs import listing
from datamover.postgres.database import Cursor, Database
from datamover.postgres.migrate import migrate
from datamover.postgres.named_queries import QUERIES, Prepared
from tests.servers.postgres import address, shared

LARGE = {"jobs", "transfers", "events", "notices"}
AGAIN_AND_AGAIN = [query for name in QUERIES.names() if isinstance(query := QUERIES[name], Prepared)]
AGAIN_AND_AGAIN += [listing.JOB, listing.STATUS]
CLAIM = next(query for query in AGAIN_AND_AGAIN if query.name == "claim")

SOME_JOBS = """
    INSERT INTO jobs (owner, method, label, overwrite, max_attempts, priority, stop_on_failure, files_total,
                      files_sized, bytes_sized)
    SELECT 'client', 'jobs.submit', '', 'never', 5, 3, false, 5, 0, 0 FROM generate_series(1, 20)
"""
SOME_FILES = """
    INSERT INTO transfers (job, index, owner, priority, source_host, leader, source_url, destination, path, naming,
                           target)
    SELECT id, n, 'client', 3, 'web host', n, 'http://host/' || n, 'place', 'file ' || n, 'exact', 'file ' || n
    FROM jobs CROSS JOIN generate_series(0, 4) n
"""


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return all steps of a plan."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from steps(inner)


def reads_it_all(step: dict[str, Any], partial: set[str]) -> bool:
    """Tell whether a step reads a large table from end to end; a partial index holds little of one."""
    if step.get("Relation Name") not in LARGE:
        return False
    if step["Node Type"] in ("Index Scan", "Index Only Scan"):
        return "Index Cond" not in step and step["Index Name"] not in partial
    return bool(step["Node Type"].endswith("Scan"))


async def plan(database: Database, query: Prepared) -> dict[str, Any]:
    """Return the plan that serves whatever the parameters are."""

    async def ask(cursor: Cursor) -> Any:
        await cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await cursor.execute(query.preparation)
        nothing = ", ".join(f"NULL::{kind}" for kind in query.types.values())
        [row] = await cursor.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE {query.name} ({nothing})")
        await cursor.execute(f"DEALLOCATE {query.name}")
        return row["QUERY PLAN"][0]["Plan"]

    found: dict[str, Any] = await database.transaction(ask)
    return found


@pytest.mark.parametrize("filled", ["empty", "few", "few counted"])
@pytest_twisted.ensureDeferred
async def test_rows_are_looked_up(filled: str) -> None:
    """No plan reads a large table from end to end, or a destination's queue for each lane.

    It would be kept when the table has grown.
    """
    database = Database(reactor, address(shared().fresh()), 2)
    try:
        await database.open()
        await migrate(database)
        if filled != "empty":
            await database.execute(SOME_JOBS)
            await database.execute(SOME_FILES)
        if filled == "few counted":
            await database.execute("ANALYZE jobs, transfers, events, notices")
        rows = await database.fetch("SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indpred IS NOT NULL")
        partial = {str(row["name"]) for row in rows}
        whole = {
            query.name: [f"{step['Node Type']} of {step['Relation Name']}" for step in found]
            for query in AGAIN_AND_AGAIN
            if (found := [step for step in steps(await plan(database, query)) if reads_it_all(step, partial)])
        }
        assert whole == {}
        read = {step.get("Index Name") for step in steps(await plan(database, CLAIM))}
        assert "transfers_claimable" in read
        assert "transfers_ahead" not in read
        assert "transfers_ahead" in {step.get("Index Name") for step in steps(await plan(database, listing.STATUS))}
    finally:
        await database.close()
