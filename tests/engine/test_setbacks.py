"""The database's clock set back: what waited for times that are far away again is brought forward, once."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.upkeep import slices
from datamover.jobs.upkeep.setbacks import Setbacks
from datamover.jobs.upkeep.slices import SliceSize
from tests.engine.rig import Rig, file, place
from tests.servers.refusing import LASTING, Refusal

LATER = "extract(epoch FROM next_attempt_at - now())"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Slices are of four rows."""
    for name in ("LEAST", "MOST"):
        monkeypatch.setattr(slices, name, 4)
    monkeypatch.setattr(SliceSize, "__init__", lambda self: setattr(self, "rows", 4))
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri()}})
    yield rig
    await rig.close()


async def set_back(rig: Rig) -> list[int]:
    """Return three jobs as they are found after the clock was set back by an hour; the second has ended."""
    jobs = [
        await rig.ask(*(file(place("archive", "a"), "archive", f"{job}/{n}") for n in range(7))) for job in range(3)
    ]
    await rig.database.execute(
        f"""UPDATE transfers SET next_attempt_at = now() + interval '1 hour' + index * interval '1 minute';
            UPDATE jobs SET finished_at = now() WHERE id = {jobs[1]};
            UPDATE transfers SET state = 'IN_PROGRESS', node = gen_random_uuid(),
                lease_until = now() + interval '1 hour 10 seconds' WHERE job = {jobs[2]} AND index = 6;
            INSERT INTO nodes (id, name, roles, heartbeat_at)
                VALUES (gen_random_uuid(), 'a', '{{engine}}', now() + interval '1 hour');
            INSERT INTO sides (name, closed_until) VALUES ('place archive', now() + interval '61 minutes');
            INSERT INTO notices (job, owner, url, host, state, next_attempt_at)
                SELECT id, 'tester', 'http://h/', 'h', 'DUE', now() + interval '62 minutes' FROM jobs"""
    )
    return jobs


async def waits(rig: Rig, job: int) -> list[int]:
    """Return in how many minutes a job's files are due."""
    rows = await rig.database.fetch(
        f"SELECT {LATER} / 60 AS minutes FROM transfers WHERE job = {job} AND state = 'PENDING' ORDER BY index"
    )
    return [round(float(row["minutes"])) for row in rows]


@pytest_twisted.ensureDeferred
async def test_brought_forward(rig: Rig) -> None:
    """Leases, breakers, heartbeats, retries and notices are due as long from now as they were before."""
    first, ended, last = await set_back(rig)
    mending = Setbacks(rig.database)
    assert await mending.notice() == 3600
    assert await mending.notice() == 0
    (row,) = await rig.database.fetch("SELECT max(heartbeat_at) <= now() AS back FROM nodes")
    assert row["back"]
    (row,) = await rig.database.fetch("SELECT extract(epoch FROM closed_until - now()) AS s FROM sides")
    assert 50 < row["s"] <= 60
    (row,) = await rig.database.fetch(
        "SELECT extract(epoch FROM lease_until - now()) AS s FROM transfers WHERE node IS NOT NULL"
    )
    assert 0 < row["s"] <= 10

    assert await mending.go_on(60.0) > 4
    assert await waits(rig, first) == [0, 1, 2, 3, 4, 5, 6]
    assert await waits(rig, last) == [0, 1, 2, 3, 4, 5]
    assert await waits(rig, ended) == [60 + n for n in range(7)]
    rows = await rig.database.fetch(f"SELECT {LATER} AS s FROM notices")
    assert [100 < row["s"] <= 120 for row in rows] == [True] * 3
    assert await mending.go_on(60.0) == 0
    assert await rig.database.fetch("SELECT FROM setbacks") == []


@pytest_twisted.ensureDeferred
async def test_gone_on_with(rig: Rig) -> None:
    """What the process that noticed it did not come to another does, each file once."""
    first, _, last = await set_back(rig)
    noticing = Setbacks(rig.database, clock=map(float, count()).__next__)
    await noticing.notice()
    assert await noticing.go_on(2.0) == 1
    assert await waits(rig, first) == [0, 1, 2, 3, 64, 65, 66]
    await Setbacks(rig.database).go_on(60.0)
    assert await waits(rig, first) == [0, 1, 2, 3, 4, 5, 6]
    assert await waits(rig, last) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("poison", [0, 2, 3])
@pytest_twisted.ensureDeferred
async def test_refused(rig: Rig, poison: int) -> None:
    """What the database refuses of one file or notice is passed over and told; all others are brought forward."""
    first, _, last = await set_back(rig)
    for refusal in (
        Refusal("transfers", "UPDATE", f"NEW.job = {first} AND NEW.index = {poison}", LASTING[0]),
        Refusal("notices", "UPDATE", f"NEW.job = {first}", LASTING[0]),
    ):
        await rig.database.execute(refusal.begin)
    told: list[tuple[str, str]] = []
    mending = Setbacks(rig.database, refused=lambda loop, what, failure: told.append((loop, what)))
    await mending.notice()
    await mending.go_on(60.0)
    assert await waits(rig, first) == [60 + n if n == poison else n for n in range(7)]
    assert await waits(rig, last) == [0, 1, 2, 3, 4, 5]
    rows = await rig.database.fetch(f"SELECT {LATER} AS s FROM notices ORDER BY job")
    assert [row["s"] <= 120 for row in rows] == [False, True, True]
    assert told == [
        ("clock", f"the time of file {poison} of job {first}"),
        ("clock", f"the time of the notice of job {first}"),
    ]
    assert await rig.database.fetch("SELECT FROM setbacks") == []
