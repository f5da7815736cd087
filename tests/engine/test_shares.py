"""What owners have of a destination, of a source's host and of the cluster, when several of them wait."""

from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from datamover.jobs.queue.limits import QueueLimits
from datamover.postgres.database import Database
from tests.engine.rig import Rig, file, url
from tests.engine.test_limits import Node

T = TypeVar("T")
WIDE = QueueLimits(destinations={"one": 1, "six": 6, "many": 100}, total=1000, per_owner=1000, per_source_host=1000)


@asynccontextmanager
async def queue(directory: Path, limits: QueueLimits) -> AsyncIterator["Shared"]:
    rig = await Rig(reactor, directory).open({name: {"url": directory.as_uri()} for name in limits.destinations})
    rig.limits = limits
    node = Node(rig, 1)
    try:
        await node.database.open()
        yield Shared(rig, node)
    finally:
        await node.database.close()
        await rig.close()


@dataclass
class Shared:
    """A queue that several owners fill, and one node that works on it."""

    rig: Rig
    node: Node
    asked: int = 0
    served: list[str] = field(default_factory=list)
    """Owners, in the order in which they were given something."""

    async def ask(self, owner: str, to: str, files: int = 1, *, host: str = "host", **job: Any) -> int:
        self.asked += files
        source = url(f"http://{host}.example.org/f")
        names = range(self.asked - files, self.asked)
        return await self.rig.ask(*(file(source, to, f"{n}") for n in names), owner=owner, **job)

    async def take(self, room: int = 64) -> Counter[str]:
        """Claim; return what is held, by owner."""
        before = len(self.node.held)
        await self.node.take(self.rig.limits, room)
        self.served += [group.leader.owner for group in self.node.held[before:]]
        return self.held

    @property
    def held(self) -> Counter[str]:
        return Counter(group.leader.owner for group in self.node.held)

    async def end(self, owner: str, files: int = 1) -> None:
        """Have some of an owner's files arrive."""
        await self.node.finish([one for one in self.node.held if one.leader.owner == owner][:files])


@pytest_twisted.ensureDeferred
async def test_a_share_of_a_destination(tmp_path: Path) -> None:
    """Owners who wait share what is free, whatever their priorities; an owner alone has all; what is left is used."""
    async with queue(tmp_path, WIDE) as shared:
        await shared.ask("ann", "six", 50, priority=5)
        assert await shared.take() == {"ann": 6}
        await shared.end("ann", 6)
        await shared.ask("bob", "six", 50, priority=1)
        assert await shared.take() == {"ann": 3, "bob": 3}
        await shared.ask("cat", "six", 1, priority=1)
        await shared.end("ann", 2)
        assert await shared.take() == {"ann": 2, "bob": 3, "cat": 1}
        await shared.end("cat")
        assert await shared.take() == {"ann": 3, "bob": 3}


@pytest_twisted.ensureDeferred
async def test_who_has_all_gives_way(tmp_path: Path) -> None:
    """Of an owner who has all of a destination, everything that becomes free is another's, until they are alike."""
    async with queue(tmp_path, WIDE) as shared:
        await shared.ask("ann", "six", 50, priority=5)
        await shared.take()
        await shared.ask("bob", "six", 50, priority=1)
        for mine in (1, 2, 3):
            await shared.end("ann")
            assert await shared.take() == {"ann": 6 - mine, "bob": mine}
        await shared.end("ann")
        assert await shared.take() == {"ann": 3, "bob": 3}


@pytest_twisted.ensureDeferred
async def test_turns_at_a_destination_that_takes_one(tmp_path: Path) -> None:
    """Where there is less than one for each, owners take turns, though one asks all the time, and at priority 5."""
    async with queue(tmp_path, WIDE) as shared:
        await shared.ask("ann", "one", 9, priority=5)
        for owner in ("bob", "cat"):
            await shared.ask(owner, "one", 9, priority=1)
        for _ in range(9):
            (owner,) = await shared.take()
            await shared.ask("ann", "one", priority=5)
            await shared.end(owner)
        assert [set(shared.served[turn : turn + 3]) for turn in (0, 3, 6)] == [{"ann", "bob", "cat"}] * 3


@pytest.mark.parametrize("limits", [replace(WIDE, total=4), replace(WIDE, per_source_host=4)])
@pytest_twisted.ensureDeferred
async def test_a_share_of_all_and_of_a_host(tmp_path: Path, limits: QueueLimits) -> None:
    """What the cluster, or one source's host, allows is shared by those who wait, to whatever destinations."""
    async with queue(tmp_path, limits) as shared:
        await shared.ask("ann", "many", 50, priority=5)
        await shared.ask("bob", "six", 50, priority=1)
        assert await shared.take() == {"ann": 2, "bob": 2}
        await shared.end("bob", 2)
        await shared.ask("cat", "six", 50)
        assert await shared.take() == {"ann": 2, "bob": 1, "cat": 1}


@pytest_twisted.ensureDeferred
async def test_a_host_is_one_whatever_its_ports(tmp_path: Path) -> None:
    """The limit of a source's host holds for all that is read from it, at whichever port, by whichever scheme."""
    async with queue(tmp_path, replace(WIDE, per_source_host=3)) as shared:
        await shared.node.queue.heartbeat(0)
        for job, server in enumerate(("http://h.example.org", "http://h.example.org:8080", "https://h.example.org")):
            files = (file(url(f"{server}/f"), "many", f"{job}/{n}") for n in range(3))
            await shared.rig.ask(*files, owner="ann")
        assert await shared.take() == {"ann": 3}
        (waiting,) = await shared.rig.database.fetch("SELECT max(job) AS job FROM transfers WHERE state = 'PENDING'")
        told = (await shared.rig.store.job(waiting["job"])).waiting_for
        assert told is not None
        assert told.startswith("source h.example.org: 3 of 3 transfers active")


@pytest_twisted.ensureDeferred
async def test_one_owner_leaves_slots_to_others(tmp_path: Path) -> None:
    """Where there are several owners, one that came first does not have all of a destination, a host or a process."""
    async with queue(tmp_path, replace(WIDE, per_source_host=4, shared=True)) as shared:
        await shared.node.queue.heartbeat(0)
        for n in range(3):
            job = await shared.ask("ann", "six", 9, host=f"host-{n}")
        assert await shared.take() == {"ann": 5}
        told = (await shared.rig.store.job(job)).waiting_for
        assert told is not None
        assert told.startswith("destination six: 5 of 5 transfers of owner ann active")
        await shared.ask("bob", "six")
        assert await shared.take() == {"ann": 5, "bob": 1}

        await shared.ask("cat", "many", 3, host="other")
        job = await shared.ask("cat", "many", host="other")
        assert (await shared.take())["cat"] == 3
        told = (await shared.rig.store.job(job)).waiting_for
        assert told is not None
        assert told.startswith("source other.example.org: 3 of 3 transfers of owner cat active")
        await shared.ask("bob", "many", host="other")
        await shared.ask("ann", "one")
        assert await shared.take() == {"ann": 6, "bob": 2, "cat": 3}

        shared.rig.limits = replace(shared.rig.limits, here=8)
        await shared.ask("ann", "many", host="more")
        await shared.ask("bob", "many", host="more")
        assert await shared.take() == {"ann": 6, "bob": 3, "cat": 3}
        assert replace(WIDE, total=8, shared=True).active_of("ann") == 6


@pytest_twisted.ensureDeferred
async def test_what_waits_for_a_process_is_told_so(tmp_path: Path) -> None:
    """Whoever has its share of every engine is told that, and so is who waits for engines that have all they take."""
    async with queue(tmp_path, replace(WIDE, here=4, shared=True)) as shared:
        other = Node(shared.rig, 2)
        await other.database.open()
        try:
            for node in (shared.node, other):
                await node.queue.heartbeat(0)
            await shared.ask("ann", "many", 6)
            job = await shared.ask("ann", "many")
            assert await shared.take() == {"ann": 3}
            assert (await shared.rig.store.job(job)).waiting_for == "an engine to take it up, 3 ahead"
            await other.take(shared.rig.limits, 64)
            assert len(other.held) == 3
            assert (await shared.rig.store.job(job)).waiting_for == "each engine: 3 of 3 transfers of owner ann active"
            await shared.ask("bob", "many", 2)
            await shared.take(1)
            await other.take(shared.rig.limits, 1)
            job = await shared.ask("cat", "many")
            assert (await shared.rig.store.job(job)).waiting_for == "each engine: 4 of 4 transfers active, 1 ahead"
        finally:
            await other.database.close()


@pytest_twisted.ensureDeferred
async def test_what_an_owner_cannot_use_is_others(tmp_path: Path) -> None:
    """One claim fills a destination, though those who wait have less to move there than their shares."""
    async with queue(tmp_path, WIDE) as shared:
        for owner in ("ann", "bob", "cat"):
            await shared.ask(owner, "six")
        await shared.ask("dan", "six", 50)
        assert await shared.take() == {"ann": 1, "bob": 1, "cat": 1, "dan": 3}


@pytest_twisted.ensureDeferred
async def test_an_owner_of_many_servers(tmp_path: Path) -> None:
    """Of one who names thousands of servers a thousand are looked at, and the next owner's turn comes all the same."""
    async with queue(tmp_path, replace(WIDE, total=10_000, per_owner=10_000)) as shared:
        sources = (url(f"http://h.example.org:{port}/f") for port in range(1, 1100))
        files = [file(source, "one", f"many/{n}") for n, source in enumerate(sources)]
        await shared.rig.ask(*files, owner="ann")
        await shared.ask("bob", "one")
        await shared.ask("cat", "six")
        assert await shared.take() == {"ann": 1, "cat": 1}
        await shared.end("ann")
        assert await shared.take() == {"bob": 1, "cat": 1}


OWNERS, PLACES, HOSTS = ("ann", "bob", "cat"), ("one", "six"), ("x", "y")


class Shares(RuleBasedStateMachine):
    """Owners who ask, claims and arrivals in whatever order."""

    shared: Shared
    database: Database

    def __init__(self) -> None:
        super().__init__()
        run(self.database.execute("TRUNCATE jobs, transfers, events, turns, breakers, sides CASCADE"))
        self.shared.node.held.clear()
        self.waiting: Counter[tuple[str, str]] = Counter()
        """Files that wait, by owner and destination."""
        self.passed_over: Counter[tuple[str, str]] = Counter()
        """How often others were served while an owner that had nothing of it waited."""

    @rule(
        owner=st.sampled_from(OWNERS),
        to=st.sampled_from(PLACES),
        host=st.sampled_from(HOSTS),
        files=st.integers(1, 9),
        priority=st.integers(1, 5),
    )
    def ask(self, owner: str, to: str, host: str, files: int, priority: int) -> None:
        run(self.shared.ask(owner, to, files, host=host, priority=priority))
        self.waiting[owner, to] += files

    @rule(room=st.integers(1, 8))
    def claim(self, room: int) -> None:
        """No slot stays free that somebody waits for; none is given to who has more of it than another who waits."""
        before = list(self.shared.node.held)
        had = self._held()
        free = {to: WIDE.destinations[to] - sum(had[owner, to] for owner in OWNERS) for to in PLACES}
        wanted = sum(min(free[to], sum(self.waiting[owner, to] for owner in OWNERS)) for to in PLACES)
        run(self.shared.take(room))
        taken = [group.leader for group in self.shared.node.held if group not in before]
        assert len(taken) == min(room, wanted)
        given = Counter((one.owner, one.destination) for one in taken)
        self.waiting -= given
        if len(taken) == room:
            return  # What a process has room for is shared out as a whole.
        have = self._held()
        for owner, to in given:
            for other in OWNERS:
                if self.waiting[other, to]:
                    assert have[other, to] >= have[owner, to] - 1, (other, owner, to, have)
        for to in PLACES:
            for owner in OWNERS:
                if not self.waiting[owner, to] or have[owner, to]:
                    self.passed_over[owner, to] = 0
                else:
                    self.passed_over[owner, to] += sum(given[other, to] for other in OWNERS)
                    assert self.passed_over[owner, to] < len(OWNERS), (owner, to)

    @precondition(lambda self: self.shared.node.held)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        held = self.shared.node.held
        some = data.draw(st.lists(st.integers(0, len(held) - 1), unique=True, min_size=1))
        run(self.shared.node.finish([held[index] for index in some]))

    def _held(self) -> Counter[tuple[str, str]]:
        return Counter((group.leader.owner, group.leader.destination) for group in self.shared.node.held)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Wait, in hypothesis' thread, for what is done in the reactor's."""

    def begin() -> Deferred[T]:
        return Deferred.fromCoroutine(work)

    result: T = cast(Any, blockingCallFromThread)(reactor, begin)
    return result


@pytest_twisted.ensureDeferred
async def test_nobody_starves(tmp_path: Path) -> None:
    """However owners ask and files arrive, no slot is idle that somebody waits for, and every owner has its turn."""
    checked = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        derandomize=True,
    )
    async with queue(tmp_path, WIDE) as shared:
        Shares.shared, Shares.database = shared, shared.rig.database
        await deferToThread(run_state_machine_as_test, Shares, settings=checked)
