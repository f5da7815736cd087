"""Whom a breaker stops: the owner whose transfers fail, at the server where they do; all, where several owners' do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from datamover.errors import ConnectFailed, Scope, SourceNotFound
from datamover.jobs.queue.breaker import PATIENCE
from datamover.jobs.values import State
from datamover.jobs.work import Outcome
from tests.engine.rig import file, url
from tests.engine.test_shares import WIDE, Shared, queue

LIVE, DEAD = "http://h.example.org/f", "http://h.example.org:81/f"
MANY = 30


async def ask(shared: Shared, owner: str, source: str, files: int = MANY, *, to: str = "many", **job: Any) -> None:
    shared.asked += 1
    asked = (file(url(source), to, f"{shared.asked}/{n}") for n in range(files))
    await shared.rig.ask(*asked, owner=owner, **job)


async def fail(shared: Shared, scope: Scope = Scope.SOURCE, times: int = PATIENCE) -> None:
    """Have what is held fail, as everything would there; ``times`` as many attempts as there are."""
    for _ in range(times):
        refused = ConnectFailed("refused", scope=scope)
        outcomes = [Outcome(one.leader, State.PENDING, 1, 0.0, refused) for one in held(shared)]
        shared.node.held.clear()
        await shared.node.queue.settle(outcomes)
        await shared.rig.database.execute("UPDATE transfers SET next_attempt_at = now() WHERE state = 'PENDING'")
        await shared.take()


def held(shared: Shared) -> list[Any]:
    return list(shared.node.held)


async def told(shared: Shared, job: int) -> str:
    return str((await shared.rig.store.job(job)).waiting_for)


async def probe(shared: Shared) -> str:
    """Let the pauses of breakers pass; return whose the one probe is."""
    await shared.rig.database.execute("UPDATE sides SET closed_until = now() WHERE closed_until IS NOT NULL")
    await shared.rig.database.execute("UPDATE breakers SET closed_until = now() WHERE closed_until IS NOT NULL")
    (owner,) = (await shared.take()).elements()
    return owner


@pytest_twisted.ensureDeferred
async def test_a_closed_port_closes_no_other(tmp_path: Path) -> None:
    """Who names a closed port of a host, at priority 5, is stopped there; the host's other ports serve everybody."""
    async with queue(tmp_path, WIDE) as shared:
        await ask(shared, "ann", DEAD, 1, priority=5)
        await shared.take()
        await fail(shared)
        assert await shared.take() == {}
        await ask(shared, "ann", LIVE, 2)
        await ask(shared, "bob", LIVE, 2)
        assert await shared.take() == {"ann": 2, "bob": 2}


@pytest.mark.parametrize("scope", [Scope.SOURCE, Scope.DESTINATION])
@pytest_twisted.ensureDeferred
async def test_ones_errors_stop_no_other(tmp_path: Path, scope: Scope) -> None:
    """Where one owner's transfers fail that owner is stopped, but for one probe at a time; another goes on."""
    async with queue(tmp_path, WIDE) as shared:
        await ask(shared, "ann", LIVE, priority=5)
        await shared.take()
        await fail(shared, scope)
        assert await shared.take() == {}
        await ask(shared, "bob", LIVE, 3)
        assert await shared.take() == {"bob": 3}
        await shared.end("bob", 3)
        assert await shared.take() == {}
        assert await probe(shared) == "ann"
        assert await shared.take() == {"ann": 1}


@pytest.mark.parametrize("scope", [Scope.SOURCE, Scope.DESTINATION])
@pytest_twisted.ensureDeferred
async def test_several_owners_errors_stop_all(tmp_path: Path, scope: Scope) -> None:
    """Where two owners' transfers fail a third's are not tried but as probes, in turns, and what mends it mends all."""
    async with queue(tmp_path, WIDE) as shared:
        for owner, priority in (("ann", 5), ("bob", 1)):
            await ask(shared, owner, LIVE, priority=priority)
        await shared.take()
        await fail(shared, scope)
        await ask(shared, "cat", LIVE, priority=1)
        assert await shared.take() == {}
        turns = []
        for _ in range(6):
            turns.append(await probe(shared))
            assert await shared.take() == {turns[-1]: 1}
            await fail(shared, scope, 1)
            assert await shared.take() == {}
        assert [set(turns[:3]), set(turns[3:])] == [{"ann", "bob", "cat"}] * 2
        await shared.end(await probe(shared))
        assert set(await shared.take()) == {"ann", "bob", "cat"}


@pytest_twisted.ensureDeferred
async def test_probes_go_round_whatever_becomes_of_them(tmp_path: Path) -> None:
    """An owner whose probes say nothing of the side, since what they ask for is not there, does not have them all."""
    async with queue(tmp_path, WIDE) as shared:
        for owner, priority in (("ann", 5), ("bob", 1)):
            await ask(shared, owner, LIVE, priority=priority)
        await shared.take()
        await fail(shared)
        turns = []
        for _ in range(4):
            turns.append(await probe(shared))
            gone = [Outcome(one.leader, State.FAILED, 1, 0.0, SourceNotFound("gone")) for one in held(shared)]
            shared.node.held.clear()
            await shared.node.queue.settle(gone)
        assert turns in (["ann", "bob"] * 2, ["bob", "ann"] * 2)


@pytest_twisted.ensureDeferred
async def test_old_errors_close_nothing_to_others(tmp_path: Path) -> None:
    """What failed for one owner long ago does not count when another's transfers fail."""
    async with queue(tmp_path, WIDE) as shared:
        await ask(shared, "ann", LIVE, 1)
        await shared.take()
        await fail(shared)
        await shared.rig.database.execute("UPDATE breakers SET closed_until = now() - interval '1 hour'")
        await shared.rig.database.execute("UPDATE transfers SET paused = true")
        await ask(shared, "bob", LIVE, 1)
        await shared.take()
        await fail(shared)
        await ask(shared, "cat", LIVE, 1)
        assert await shared.take() == {"cat": 1}


@pytest_twisted.ensureDeferred
async def test_what_is_told(tmp_path: Path) -> None:
    """A destination is told as broken where it is for all who wait; each owner's files say what theirs wait for."""
    async with queue(tmp_path, replace(WIDE, per_owner=10)) as shared:
        await shared.node.queue.heartbeat(0)
        await ask(shared, "ann", LIVE)
        await shared.take()
        await fail(shared, Scope.DESTINATION)
        (side,) = await shared.rig.store.endpoints()
        assert (side["name"], side["held"]) == ("place many", None)
        assert side["failures"] >= PATIENCE
        await ask(shared, "bob", DEAD, 1)
        assert await shared.rig.store.endpoints() == []
        anns, bobs = 1, 2
        assert (await told(shared, anns)).startswith("destination many: refused; next probe in ")
        assert await told(shared, bobs) == "an engine to take it up, 30 ahead"
        await shared.take()
        await fail(shared)
        await shared.rig.store.release("many")
        assert (await told(shared, bobs)).startswith("source h.example.org:81: refused; next probe in ")
        assert await shared.take() == {"ann": 10}


@pytest_twisted.ensureDeferred
async def test_what_is_forgotten(tmp_path: Path) -> None:
    """What failed nowhere for a day is forgotten, and turns of long ago; a hold is not."""
    async with queue(tmp_path, WIDE) as shared:
        for owner in ("ann", "bob"):
            await ask(shared, owner, DEAD, 1)
        await shared.take()
        await fail(shared)
        await shared.rig.store.hold("six", "why")
        for table, past in (("sides", "closed_until"), ("breakers", "failed_at")):
            await shared.rig.database.execute(f"UPDATE {table} SET {past} = now() - interval '25 hours'")
        await shared.rig.database.execute("SELECT setval('turns_taken', 1000)")
        await shared.node.queue.heartbeat(0)
        assert [side["name"] for side in await shared.rig.store.endpoints()] == ["place six"]
        for table in ("breakers", "turns"):
            assert await shared.rig.database.fetch(f"SELECT FROM {table}") == []
