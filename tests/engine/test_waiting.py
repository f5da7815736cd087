"""Calls that wait are woken by what happens while they read, too."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from datamover.jobs.store import JobStore
from datamover.jobs.values import State
from datamover.postgres.database import Database
from tests.engine.rig import PATIENCE, Rig, file, url
from tests.servers import postgres


class Interrupted(Database):
    """A database where something happens each time after rows were read, and before they are returned."""

    happens: Callable[[], Awaitable[None]] | None = None

    async def read(self, *arguments: Any) -> Any:
        found = await super().read(*arguments)
        happens, self.happens = self.happens, None
        if happens is not None:
            await happens()
        return found


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri()}})
    yield rig
    await rig.close()


@pytest_twisted.async_yield_fixture
async def interrupted(rig: Rig) -> AsyncIterator[Interrupted]:
    database = Interrupted(reactor, postgres.address(rig.url), 2, rig.loops)
    await database.open()
    yield database
    await database.close()


async def cancelled(rig: Rig, job: int) -> None:
    """Cancel a job; complete when this process has been notified of its end."""
    notified: Deferred[str] = Deferred()
    stop = rig.news.subscribe(lambda word: None if notified.called else notified.callback(word))
    await rig.store.cancel(job)
    await notified
    stop()


@pytest_twisted.ensureDeferred
async def test_a_job_ends_while_it_is_read(rig: Rig, interrupted: Interrupted) -> None:
    """A job that ends between the read and the wait is answered at once, and not at the next poll."""
    job = await rig.ask(file(url("http://127.0.0.1:1/x"), "archive", "x"))
    stopped = Clock()
    store = JobStore(interrupted, rig.seal, rig.news, stopped, lambda: rig.limits)
    interrupted.happens = lambda: cancelled(rig, job)
    waiting = Deferred.fromCoroutine(store.wait(job, 1000.0))
    record = await waiting.addTimeout(PATIENCE, reactor)
    assert record.state is State.CANCELLED
    assert not stopped.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_an_event_is_written_while_the_history_is_read(rig: Rig, interrupted: Interrupted) -> None:
    """What is written between the read and the wait is answered soon after, and not at the next poll."""
    job = await rig.ask(file(url("http://127.0.0.1:1/x"), "archive", "x"))
    before = await rig.store.events()
    clock = Clock()
    store = JobStore(interrupted, rig.seal, rig.news, clock, lambda: rig.limits)
    interrupted.happens = lambda: cancelled(rig, job)
    waiting = Deferred.fromCoroutine(store.events(after=before[-1].cursor, timeout=1000.0))
    while not waiting.called and clock.seconds() < 0.5:
        await Deferred.fromCoroutine(rig.database.fetch("SELECT pg_sleep(0.01)"))
        clock.advance(0.02)
    assert [event.kind for event in await waiting.addTimeout(PATIENCE, reactor)][:1] == ["cancelled"]
