"""Limits and turns that hold over all engines of one database together, however they take their turns."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.values import Naming, Overwrite, State
from datamover.jobs.work import Group, Outcome
from datamover.postgres.database import Database, Row
from tests.engine.rig import Engine, Rig, file, place, url
from tests.engine.test_queue import became
from tests.servers import postgres
from tests.servers.web import File, Web
from tests.waiting import until

LIMITS = QueueLimits(total=7, per_owner=4, per_source_host=3)
WIDE, NARROW = 6, 2
"""What two destinations allow."""


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    for name in ("wide", "narrow"):
        (tmp_path / name).mkdir()
    for name in "abc":
        (tmp_path / "narrow" / name).write_text(name)
    rig = await Rig(reactor, tmp_path).open(
        {
            "wide": {"url": f"faulty://{tmp_path}/wide", "max_active": WIDE},
            "narrow": {"url": f"faulty://{tmp_path}/narrow", "max_active": NARROW},
        },
        limits=LIMITS,
    )
    yield rig
    await rig.close()


class Node:
    """The queue of one engine, on connections of its own, and what it holds."""

    def __init__(self, rig: Rig, number: int) -> None:
        self.database = Database(reactor, postgres.address(rig.url), 2)
        node = f"00000000-0000-0000-0000-{number:012}"
        self.queue = Queue(self.database, rig.seal, node=node, name=f"{number}", roles=["engine"])
        self.held: list[Group] = []

    async def take(self, limits: QueueLimits, room: int) -> int:
        taken = await self.queue.claim(limits, room)
        self.held += taken
        return len(taken)

    async def finish(self, some: Sequence[Group]) -> None:
        await self.queue.settle([Outcome(one.leader, State.COMPLETED, 0, size=1, digest="sha256:00") for one in some])
        self.held = [one for one in self.held if one not in some]


class Watched:
    """What is active, held against every limit."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._most = {
            "destination": lambda name: rig.limits.destinations[name],
            "owner": lambda name: LIMITS.per_owner,
            "source_host": lambda name: LIMITS.per_source_host,
            "total": lambda name: LIMITS.total,
        }
        self.reached = set[str]()
        """The limits that something was held back by."""

    async def check(self, *, settled: bool) -> int:
        """Return how many are active. Where nobody takes more (``settled``), nothing waits but for a limit."""
        active = await self._read("node IS NOT NULL")
        full = {key: self._full(key, active) for key in self._most}
        if settled:
            for row in await self._read("state = 'PENDING'"):
                assert any(row[key] in full[key] for key in full), (row, active)
        return len(active)

    def _full(self, key: str, active: Sequence[Mapping[str, str]]) -> set[str]:
        counts = Counter(one[key] for one in active)
        assert all(count <= self._most[key](name) for name, count in counts.items()), (key, counts)
        full = {name for name, count in counts.items() if count == self._most[key](name)}
        self.reached |= {key} if full else set()
        return full

    async def _read(self, which: str) -> Sequence[Row]:
        return await self._rig.database.fetch(
            f"SELECT destination, owner, source_host, '' AS total FROM transfers WHERE {which}"
        )


@pytest_twisted.ensureDeferred
async def test_all_limits_together(rig: Rig) -> None:
    """However two nodes claim at once no limit is passed, and nothing waits that all limits would allow."""
    dice = random.Random(4)
    sources = [url(f"http://{host}.example.org/f") for host in ("one", "two", "three", "four")]
    for number in range(60):
        owner, to = dice.choice(("ann", "ann", "ann", "bob", "cat")), dice.choice(("wide", "wide", "narrow"))
        await rig.ask(file(dice.choice(sources), to, f"{number}"), owner=owner)
    watched, nodes = Watched(rig), [Node(rig, number) for number in (1, 2)]
    try:
        for node in nodes:
            await node.database.open()
        while True:
            taken = await gatherResults(
                [Deferred.fromCoroutine(node.take(rig.limits, dice.randrange(1, 8))) for node in nodes]
            )
            if not await watched.check(settled=not any(taken)):
                break
            if not any(taken):
                node = dice.choice([node for node in nodes if node.held])
                await node.finish(dice.sample(node.held, dice.randrange(1, len(node.held) + 1)))
    finally:
        for node in nodes:
            await node.database.close()
    assert watched.reached == {"destination", "owner", "source_host", "total"}
    assert not await rig.database.fetch("SELECT id FROM transfers WHERE state <> 'COMPLETED'")


class Doors:
    """Has every file stand before it is written, until it is let in; notes who comes and goes."""

    def __init__(self, rig: Rig) -> None:
        self.standing: list[Deferred[None]] = []
        self.placed: list[str] = []
        self.open = False
        rig.faulty.before = self._before

    async def _before(self, operation: str, path: str) -> None:
        if operation == "place":
            self.placed.append(path)
        if operation == "write" and not self.open:
            waiter: Deferred[None] = Deferred()
            self.standing.append(waiter)
            await waiter

    def let_in(self, *, stay_open: bool = False) -> None:
        self.open = stay_open
        standing, self.standing = self.standing, []
        for waiter in standing:
            waiter.callback(None)


@pytest.mark.parametrize(
    ("limits", "owners", "to", "most"),
    [
        (QueueLimits(total=3), 6, "wide", 3),
        (QueueLimits(per_owner=3), 1, "wide", 3),
        (QueueLimits(per_source_host=3), 6, "wide", 3),
        (QueueLimits(), 6, "narrow", NARROW),
    ],
)
@pytest_twisted.ensureDeferred
async def test_limit_over_two_engines(rig: Rig, limits: QueueLimits, owners: int, to: str, most: int) -> None:
    """What one engine has taken counts against the limit of the other, and both have their part of it."""
    rig.limits = replace(limits, destinations=rig.limits.destinations)
    doors = Doors(rig)
    small = await rig.engine(max_active=most - 1)
    jobs = [await rig.ask(file(place("narrow", "a"), to, f"{n}"), owner=f"{n % owners}") for n in range(8)]
    await until(lambda: len(doors.standing) == most - 1)
    large = await rig.engine()
    await until(lambda: len(doors.standing) == most)
    for engine in (small, large):
        assert await engine.queue.claim(rig.limits, 8) == []
    assert (small.dispatcher.active, large.dispatcher.active) == (most - 1, 1)
    doors.let_in(stay_open=True)
    assert {(await rig.ended(job)).state for job in jobs} == {State.COMPLETED}


async def _second_engine_waits(rig: Rig, doors: Doors, job: int, behind: int) -> Engine:
    """Start another engine; return it when it has left ``job`` alone, which says that it waits for ``behind``."""
    engine = await rig.engine()
    assert await engine.queue.claim(rig.limits, 8) == []
    record = await rig.store.job(job)
    assert record.waiting_for == f"job {behind}, which has the same target"
    assert len(doors.standing) == 1
    return engine


@pytest_twisted.ensureDeferred
async def test_same_target_on_two_engines(rig: Rig, tmp_path: Path) -> None:
    """While one engine moves a file to a path, no other moves another there; the later request has the last word."""
    doors = Doors(rig)
    await rig.engine(max_active=1)
    asked = [
        await rig.ask(file(place("narrow", name), "wide", "same"), overwrite=Overwrite.ALWAYS, priority=priority)
        for name, priority in (("a", 1), ("b", 5))
    ]
    await until(lambda: doors.standing)
    await _second_engine_waits(rig, doors, asked[1], asked[0])
    doors.let_in()
    await rig.ended(asked[0])
    await until(lambda: doors.standing)
    doors.let_in()
    await rig.ended(asked[1])
    assert (tmp_path / "wide/same").read_text() == "b"


@pytest_twisted.ensureDeferred
async def test_same_target_retried(rig: Rig, tmp_path: Path) -> None:
    """An older job that is asked to try again waits for the younger one that is on its way to the same path."""
    missing = file(place("narrow", "missing"), "wide", "same")
    older = await rig.ask(missing, overwrite=Overwrite.ALWAYS)
    doors = Doors(rig)
    await rig.engine(max_active=1)
    await rig.ended(older)
    younger = await rig.ask(file(place("narrow", "b"), "wide", "same"), overwrite=Overwrite.ALWAYS)
    await until(lambda: doors.standing)
    (tmp_path / "narrow/missing").write_text("here now")
    await rig.store.retry(older)
    await _second_engine_waits(rig, doors, older, younger)
    doors.let_in(stay_open=True)
    await rig.ended(younger)
    await rig.ended(older)
    assert (tmp_path / "wide/same").read_text() == "here now"


@pytest_twisted.ensureDeferred
async def test_same_target_expected(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A file of which the URL tells the name waits for another job's file of that name without being asked for."""
    doors = Doors(rig)
    for name in "ab":
        web.route(f"/{name}/same", File(name.encode(), etag='"1"'))
    await rig.engine(max_active=1)
    asked = [
        await rig.ask(file(url(f"{web.url}/{name}/same"), "wide", "in", Naming.INTO), overwrite=Overwrite.ALWAYS)
        for name in "ab"
    ]
    await until(lambda: doors.standing)
    await _second_engine_waits(rig, doors, asked[1], asked[0])
    assert {request.path for request in web.requests} == {"/a/same"}
    doors.let_in(stay_open=True)
    for job in asked:
        await rig.ended(job)
    assert (tmp_path / "wide/in/same").read_text() == "b"


@pytest_twisted.ensureDeferred
async def test_same_target_found_late(rig: Rig, web: Web, tmp_path: Path) -> None:
    """What only the source's answer names waits for another job's file of that name, once it is known."""
    doors = Doors(rig)
    disposition = [("Content-Disposition", 'attachment; filename="same"')]
    for name in "ab":
        web.route(f"/{name}", File(name.encode(), etag='"1"', headers=disposition))
    first = await rig.engine(max_active=1)
    asked = [
        await rig.ask(file(url(f"{web.url}/{name}?x"), "wide", "in", Naming.INTO), overwrite=Overwrite.ALWAYS)
        for name in "ab"
    ]
    await until(lambda: doors.standing)
    second = await rig.engine()
    await until(lambda: web.requests and web.requests[-1].path.startswith("/b"))
    waiting = f"job {asked[0]}, which has the same target"
    await became(rig, asked[1], lambda record: record.waiting_for == waiting)
    assert await second.queue.claim(rig.limits, 8) == []
    assert (first.dispatcher.active, second.dispatcher.active, len(doors.standing)) == (1, 0, 1)
    doors.let_in(stay_open=True)
    for job in asked:
        await rig.ended(job)
    assert (tmp_path / "wide/in/same").read_text() == "b"
