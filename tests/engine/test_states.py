"""The states of a job, by a model: whatever clients and nodes do in whatever order, the store agrees with the model."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from datamover.errors import ConnectionLost, InvalidState, SourceNotFound
from datamover.jobs.notifications import Notifications
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.store import JobStore
from datamover.jobs.upkeep import slices
from datamover.jobs.upkeep.slices import SliceSize
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import Naming, NewFile, NewJob, PlaceSource, State
from datamover.jobs.work import Group, Outcome
from datamover.postgres.database import Database
from tests.engine.rig import Seal
from tests.servers import postgres

T = TypeVar("T")
SETTINGS = settings(
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    derandomize=True,
)
BOUNDS = QueueLimits(destinations={"a": 100, "b": 100})
NODES = ("00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b")


@dataclass
class Modelled:
    """What a job should be like."""

    files: dict[int, State]
    stop_on_failure: bool
    paused: bool = False
    cancelled: bool = False
    cancelling: set[int] = field(default_factory=set)
    """Files that are to be stopped by who works on them next, if not by who does now."""
    traces: set[int] = field(default_factory=set)
    """Files of which a dead node may have left something."""

    @property
    def state(self) -> State:
        states = set(self.files.values())
        if not all(state.terminal for state in states):
            return State.PENDING if states == {State.PENDING} else State.IN_PROGRESS
        if states == {State.COMPLETED}:
            return State.COMPLETED
        if self.cancelled:
            return State.CANCELLED
        return State.PARTIAL if State.COMPLETED in states else State.FAILED


class Jobs(RuleBasedStateMachine):
    """Two nodes and a client against one database."""

    store: JobStore
    queues: dict[str, Queue]
    upkeep: Upkeep
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[int, Modelled] = {}
        self.started: set[int] = set()
        self.held: dict[tuple[int, int], tuple[str, Group]] = {}
        run(self.database.execute("TRUNCATE jobs, transfers, events, nodes, sides, expired_jobs CASCADE"))

    @rule(files=st.integers(1, 4), stop=st.booleans(), priority=st.integers(1, 5))
    def submit(self, files: int, stop: bool, priority: int) -> None:
        asked = tuple(
            NewFile(PlaceSource("a", "x"), "b", f"{len(self.model)}/{index}", Naming.EXACT) for index in range(files)
        )
        job = NewJob(owner="tester", files=asked, stop_on_failure=stop, priority=priority)
        (submitted,) = run(self.store.submit([job]))
        self.model[submitted.id] = Modelled(dict.fromkeys(range(files), State.PENDING), stop)

    @rule(node=st.sampled_from(NODES), room=st.integers(1, 3))
    def claim(self, node: str, room: int) -> None:
        free = sum(
            state is State.PENDING and (not job.paused or index in job.cancelling)
            for job in self.model.values()
            for index, state in job.files.items()
        )
        groups = run(self.queues[node].claim(BOUNDS, room))
        assert len(groups) == min(free, room)
        for group in groups:
            leader = group.leader
            assert self.model[leader.job].files[leader.index] is State.PENDING
            self.model[leader.job].files[leader.index] = State.IN_PROGRESS
            self.started.add(leader.job)
            self.held[leader.job, leader.index] = (node, group)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["done", "again", "failed", "stopped"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        node, group = self.held.pop(key)
        job, leader = self.model[key[0]], group.leader
        if how == "stopped" and key[1] not in job.cancelling:
            how = "done"
        state = {"done": State.COMPLETED, "again": State.PENDING, "failed": State.FAILED, "stopped": State.CANCELLED}[
            how
        ]
        error = {"again": ConnectionLost("it broke"), "failed": SourceNotFound("it is not there")}.get(how)
        run(self.queues[node].settle([Outcome(leader, state, 0, error=error, size=1, digest="sha256:00")]))
        job.files[key[1]] = state
        job.traces.discard(key[1])
        if state is not State.PENDING:
            job.cancelling.discard(key[1])
        if state is State.FAILED and job.stop_on_failure:
            run(self.upkeep.carry_out())
            self._stop(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def node_dies(self, data: st.DataObject) -> None:
        """A lease runs out; the other node puts its work back."""
        key = data.draw(st.sampled_from(sorted(self.held)))
        node, group = self.held.pop(key)
        run(
            self.database.execute(
                "UPDATE transfers SET lease_until = now() - interval '1 second' WHERE id = %(id)s",
                {"id": group.leader.id},
            )
        )
        other = next(one for one in NODES if one != node)
        assert run(self.queues[other].take_over()) == 1
        job = self.model[key[0]]
        job.files[key[1]] = State.PENDING
        job.traces.add(key[1])
        late = Outcome(group.leader, State.COMPLETED, 0, size=1, digest="sha256:00")
        run(self.queues[node].settle([late]))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), verb=st.sampled_from(["cancel", "pause", "resume", "retry"]))
    def change_of_mind(self, data: st.DataObject, verb: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        job = self.model[number]
        refused = False
        try:
            run(getattr(self.store, verb)(number))
        except InvalidState:
            refused = True
        terminal = job.state.terminal
        failed = [index for index, state in job.files.items() if state is State.FAILED]
        if verb == "retry":
            assert refused == (job.state not in (State.FAILED, State.PARTIAL) or not failed)
            if not refused:
                job.files.update(dict.fromkeys(failed, State.PENDING))
        elif verb == "cancel":
            assert refused == (terminal and job.state is not State.CANCELLED)
            if not refused and not terminal:
                job.cancelled, job.paused = True, False
                self._stop(job)
        else:
            assert refused == (terminal or (verb == "pause" and job.cancelled))
            if not refused:
                job.paused = verb == "pause"

    def _stop(self, job: Modelled) -> None:
        for index, state in job.files.items():
            if state is State.PENDING and index not in job.traces:
                job.files[index] = State.CANCELLED
            elif not state.terminal:
                job.cancelling.add(index)

    @invariant()
    def agrees(self) -> None:
        """Every job and file is told as the model has it, and the counts add up."""
        for number, job in self.model.items():
            record = run(self.store.job(number))
            expected = job.state
            if expected is State.PENDING and number in self.started:
                expected = State.IN_PROGRESS
            assert record.state is expected, (number, record, job)
            assert record.paused == job.paused
            files = run(self.store.files(number))
            assert {file.index: file.state for file in files} == job.files
            states = list(job.files.values())
            assert record.files_completed == states.count(State.COMPLETED)
            assert record.files_failed == states.count(State.FAILED)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Wait, in hypothesis' thread, for what is done in the reactor's."""

    def begin() -> Deferred[T]:
        return Deferred.fromCoroutine(work)

    result: T = cast(Any, blockingCallFromThread)(reactor, begin)
    return result


@pytest.mark.parametrize(("rows", "examples"), [(slices.FIRST, 20), (1, 6)])
@pytest_twisted.ensureDeferred
async def test_states(rows: int, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No order of submissions, claims, outcomes, deaths, cancellations, pauses and retries confuses the store.

    Nor does it matter whether a job's files follow it all at once, or one by one.
    """
    monkeypatch.setattr(slices, "MOST", rows)
    monkeypatch.setattr(SliceSize, "__init__", lambda self: setattr(self, "rows", rows))
    url = await postgres.shared().migrated(reactor)
    database = Database(reactor, postgres.address(url), 4)
    await database.open()
    try:
        seal = Seal()
        Jobs.database = database
        Jobs.upkeep = Upkeep(database)
        Jobs.store = JobStore(database, seal, Notifications(database), reactor, lambda: BOUNDS)
        Jobs.queues = {node: Queue(database, seal, node=node, name=node, roles=["engine"]) for node in NODES}
        await deferToThread(run_state_machine_as_test, Jobs, settings=settings(SETTINGS, max_examples=examples))
    finally:
        await database.close()
