"""Whatever statement the database refuses, whenever: every other job still ends, and that one does afterwards."""

import itertools
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from datamover.concurrency.loops import LOOPS
from datamover.engine import maintenance, outcomes, recorder
from datamover.errors import NotNow
from datamover.jobs.upkeep import quarantine
from datamover.jobs.values import State
from datamover.postgres import database
from tests.engine.post import Post, opened
from tests.engine.rig import file, place, url
from tests.engine.test_refused import Gate
from tests.servers.refusing import LASTING, PASSING, Refusal
from tests.servers.web import status
from tests.waiting import until

T = TypeVar("T")
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
    phases=[Phase.generate],  # What is found says enough; to find the smallest would take minutes.
)
Choice = tuple[tuple[str, str], str, int | None]
"""What is refused, with what SQLSTATE, and how often."""
LASTING_FOR = 1.0
"""Seconds for which it is refused after the others have ended, where it is not for less."""
JOBS = 5
FILES = 2
WHEN = {
    "transfers UPDATE": (
        "NEW.job = {job}",
        "NEW.job = {job} AND NEW.index = 1",
        "NEW.job = {job} AND NEW.node IS NOT NULL",
        "NEW.job = {job} AND NEW.size IS NOT NULL AND NEW.state = 'IN_PROGRESS'",
        "NEW.job = {job} AND NEW.state = 'COMPLETED'",
        "NEW.job = {job} AND NEW.state = 'FAILED'",
        "NEW.job = {job} AND NEW.lease = OLD.lease AND NEW.lease_until > OLD.lease_until",
    ),
    "jobs UPDATE": (
        "NEW.id = {job}",
        "NEW.id = {job} AND NEW.state = 'COMPLETED'",
        "NEW.id = {job} AND NEW.files_completed > 1",
        "NEW.id = {job} AND NEW.bytes_sized > 0",
    ),
    "events INSERT": (
        "NEW.job = {job}",
        "NEW.job = {job} AND NEW.kind = 'started'",
        "NEW.job = {job} AND NEW.file IS NULL",
        "NEW.job = {job} AND NEW.details ? 'digest'",
    ),
    "notices UPDATE": ("NEW.job = {job}", "NEW.job = {job} AND NEW.lease > OLD.lease"),
}
CHOICES = [(where, when) for where, all_of_them in WHEN.items() for when in all_of_them]
_examples = itertools.count(1)
SQLSTATES = (*LASTING, *PASSING, "P0001", "53100", "58030")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Wait, in hypothesis' thread, for what is done in the reactor's."""

    def begin() -> Deferred[T]:
        return Deferred.fromCoroutine(work)

    result: T = cast(Any, blockingCallFromThread)(reactor, begin)
    return result


async def change(post: Post, statement: str) -> None:
    """Change a table that others use meanwhile."""
    while True:
        with suppress(NotNow):
            return await post.rig.database.execute(statement)


async def survives(post: Post, choices: list[Choice], midway: bool, lasting: bool) -> None:
    """Have jobs moved while what is chosen of one of them is refused, at once or once files are midway."""
    rig, gate, example = post.rig, Gate(post.rig), next(_examples)

    async def ask(number: int) -> int:
        paths = [f"{example}/{number}/{index}" for index in range(FILES)]
        files = [file(place("store", str(index)), "archive", path) for index, path in enumerate(paths)]
        return await rig.ask(*files, notify=url(f"{post.web.url}/moved"))

    jobs = [await ask(number) for number in range(JOBS)]
    poison = jobs[JOBS // 2]
    if midway:
        await until(lambda: gate.waiting == JOBS * FILES)
    refused = []
    for (where, when), sqlstate, times in choices:
        table, operation = where.split()
        refused.append(Refusal(table, operation, when.format(job=poison), sqlstate, times))
        await change(post, refused[-1].begin)
    gate.open()
    for job in jobs:
        if job != poison:
            record = await rig.ended(job)
            assert record.state is State.COMPLETED, (record, refused)
            await post.told(job, "notified")
    ends = reactor.seconds() + LASTING_FOR
    while lasting and reactor.seconds() < ends and not (await rig.store.job(poison)).state.terminal:
        await deferLater(reactor, 0.05)
    for refusal in refused:
        await change(post, refusal.end)
    ended = await rig.ended(poison)
    if all(sqlstate in (*PASSING, "53100", "58030") for _, sqlstate, _ in choices):
        assert ended.state is State.COMPLETED, (ended, refused)
    assert ended.error is None or ended.error["code"] == "INTERNAL", (ended, refused)
    assert set(rig.failures) <= set(LOOPS)
    await until(lambda: not rig.loops.troubles)


@pytest_twisted.ensureDeferred
async def test_every_other_job_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two refusals of any kind, at any of a job's statements, once, twice or for good."""
    for module, name, value in (
        (outcomes, "DOUBT", 0.05),
        (recorder, "DOUBT", 0.1),
        (recorder, "INTERVAL", 0.05),
        (quarantine, "FIRST", 0.05),
        (quarantine, "LONGEST", 0.2),
        (maintenance, "POLL", 0.1),
        (database, "ROUNDS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    (tmp_path / "store").mkdir()
    for index in range(FILES):
        (tmp_path / f"store/{index}").write_bytes(b"x" * 1000)
    post = await opened(tmp_path, f"faulty://{tmp_path}/archive")
    post.web.route("/moved", status(200))
    choice = st.tuples(st.sampled_from(CHOICES), st.sampled_from(SQLSTATES), st.sampled_from([None, 1, 2]))

    @given(st.lists(choice, min_size=1, max_size=2), st.booleans(), st.booleans())
    @SETTINGS
    def every_other_job_ends(choices: list[Choice], midway: bool, lasting: bool) -> None:
        run(survives(post, choices, midway, lasting))

    try:
        await post.notifier()
        await post.rig.engine(max_active=JOBS * FILES, lease=3.0)
        await deferToThread(every_other_job_ends)
    finally:
        await post.close()
