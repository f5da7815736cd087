"""Make one attempt at a placement group, and write its outcome.

Every error becomes an outcome; ``jobs.queue.retry`` decides whether and when there is another attempt.
"""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.logger import Logger

from datamover.config.schema import Transfers
from datamover.engine.attempt import Attempt, AttemptContext, Done, FileAttempt
from datamover.engine.groups.group import GroupAttempt
from datamover.engine.groups.staging import Staging
from datamover.engine.lease import Lease, LeaseEnd, Parked
from datamover.engine.meter import Meter
from datamover.engine.observer import UNOBSERVED, Observer
from datamover.engine.recorder import Recorder
from datamover.engine.room.reservation import RoomAwaited
from datamover.engine.transfer.spec import TransferTools
from datamover.errors import DataMoverError, DeadlineExceeded, InternalError
from datamover.jobs.queue.retry import judge
from datamover.jobs.values import State
from datamover.jobs.work import Group, Outcome, Remark
from datamover.text.quantities import size
from datamover.text.quoting import short_source

log = Logger()

T = TypeVar("T")

CLEARING = 5.0
"""Seconds for removing what a cancelled attempt left, and as many for telling the services that were asked for a
dataset: a server that hangs does not keep its job from ending."""
SHORTEST_RATED = 0.05
"""Seconds that a transfer takes at least for the log to tell its rate."""
_OUTCOMES = {
    State.COMPLETED: "completed",
    State.PENDING: "retrying",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}
"""The names of outcomes in the counters."""


class Worker:
    """The dispatcher calls this for each group."""

    def __init__(
        self,
        contexts: Callable[[], AbstractContextManager[AttemptContext]],
        recorder: Recorder,
        staging: Staging,
        random: Callable[[], float],
        observer: Observer = UNOBSERVED,
    ) -> None:
        """``contexts`` holds the dependencies of one attempt until it ends: registry, queue, throttles, datasets.

        ``random`` returns numbers from 0 to 1.
        """
        self._observer = observer
        self._contexts = contexts
        self._recorder = recorder
        self._staging = staging
        self._random = random

    async def __call__(self, group: Group, lease: Lease) -> None:
        """Make an attempt; completes when the outcome is on disk, or when there is none (parked, or lease lost)."""
        with self._contexts() as context:
            settings = context.tools.settings
            try:
                attempt = self._attempt(group, lease, context)
            except DataMoverError as error:
                await self._settle(lease, self._failed(lease, error, None, settings))
                return
            except Exception:
                await self._settle(lease, self._failed(lease, _bug(lease), None, settings))
                return
            unwatch = [self._recorder.watch(meter, lease.leader.destination) for meter in attempt.meters]
            for meter in attempt.meters:
                meter.refuse = partial(lease.end, LeaseEnd.REFUSED)
            try:
                await self._work(attempt, lease, context.tools)
            finally:
                for stop_watching in unwatch:
                    stop_watching()

    async def _work(self, attempt: Attempt, lease: Lease, tools: TransferTools) -> None:
        try:
            outcome = await self._outcome(attempt, lease, tools)
        except CancelledError:
            raise
        except Exception:
            outcome = self._failed(lease, _bug(lease), attempt, tools.settings)
        await _closed(attempt, lease)
        if outcome is None:
            self._observer.attempt_ended("lost" if lease.ending is LeaseEnd.LOST else "parked", None)
            await self._recorder.caught_up()
            return
        if attempt.meters[0].went_on:
            outcome = await self._resumed(attempt.meters[0], outcome)
        await self._settle(lease, outcome)

    async def _resumed(self, meter: Meter, outcome: Outcome) -> Outcome:
        """Record that the attempt was resumed: before its outcome is written, or else as a remark of the outcome."""
        await self._recorder.caught_up()
        if meter.resumed is None:
            return outcome
        return replace(outcome, remarks=(Remark("resumed", meter.resumed), *outcome.remarks))

    def _settle(self, lease: Lease, outcome: Outcome) -> Awaitable[None]:
        lease.settling = True
        code = outcome.error.code if outcome.error else None
        told = "parked" if outcome.room_wanted is not None else _OUTCOMES[outcome.state]
        self._observer.attempt_ended(told, code)
        return self._recorder.settle(outcome)

    def _attempt(self, group: Group, lease: Lease, context: AttemptContext) -> Attempt:
        if lease.leader.staged:
            return GroupAttempt(group, lease, context, self._staging)
        return FileAttempt(lease.leader, lease, context)

    async def _outcome(self, attempt: Attempt, lease: Lease, tools: TransferTools) -> Outcome | None:
        """Return the outcome to write; None if another attempt continues and writes its own."""
        settings = tools.settings
        if not lease.leader.placing and (lease.leader.cancelling or lease.leader.overdue):
            lease.end(LeaseEnd.CANCELLED if lease.leader.cancelling else LeaseEnd.OVERDUE)
        try:
            began = monotonic()
            done = await lease.over(attempt.run())
        except CancelledError:
            if lease.ending not in (LeaseEnd.CANCELLED, LeaseEnd.OVERDUE, LeaseEnd.REFUSED):
                return None
            cleaned = await _hurried(attempt.clear(), tools) or False  # What is left is removed in a sweep.
            await _hurried(attempt.abandon(), tools)
            if lease.ending is LeaseEnd.OVERDUE:
                overdue = DeadlineExceeded("the job's deadline has passed")
                return replace(self._failed(lease, overdue, attempt, settings), cleaned=cleaned)
            if lease.ending is LeaseEnd.REFUSED:  # The next attempt would write the same.
                failed = self._failed(lease, InternalError(), attempt, settings)
                return replace(failed, state=State.FAILED, cleaned=cleaned)
            return Outcome(lease.leader, State.CANCELLED, lease.leader.failures, cleaned=cleaned)
        except RoomAwaited as awaited:
            return _awaiting(attempt, lease, awaited)
        except Parked:
            return None
        except DataMoverError as error:
            outcome = self._failed(lease, error, attempt, settings)
        except Exception:  # A bug must not stop the queue: it is logged, reported and tried again.
            outcome = self._failed(lease, _bug(lease), attempt, settings)
        else:
            resumed = attempt.meters[0].went_on
            return self._completed(lease, done, _amount(done.size, monotonic() - began, whole=not resumed))
        if outcome.state is State.FAILED or not (outcome.checkpoint or outcome.placing):
            outcome = replace(outcome, cleaned=await attempt.clear())
        if outcome.state is State.FAILED:
            await attempt.abandon()
        return outcome

    async def sweep(self, group: Group, lease: Lease) -> bool:
        """Remove the leftovers of a group that has ended; tell whether all are removed."""
        with self._contexts() as context:
            try:
                attempt = self._attempt(group, lease, context)
            except DataMoverError as error:
                log.warn("job {job}: leftovers are not removed: {error}", job=group.leader.job, error=error.full)
                return False
            try:
                return await attempt.clear()
            finally:
                await attempt.close()

    def _completed(self, lease: Lease, done: Done, amount: str) -> Outcome:
        leader = lease.leader
        moved = all(remark.kind != "already_there" for remark in done.remarks)
        log.info(
            "job {job}: {what} {source} to {destination}:{target}{amount}",
            job=leader.job,
            transfer=leader.id,
            source=short_source(leader.source.shown),
            destination=leader.destination,
            target=done.target or leader.target or leader.path,
            what="moved" if moved else "did not need to move",
            amount=amount if moved else ", which holds it already",
            size=done.size,
        )
        return Outcome(
            leader,
            State.COMPLETED,
            leader.failures,
            size=done.size,
            digest=done.digest,
            remarks=done.remarks,
        )

    def _failed(self, lease: Lease, error: DataMoverError, attempt: Attempt | None, settings: Transfers) -> Outcome:
        leader = lease.leader
        before = leader.checkpoint.offset if leader.checkpoint else 0
        checkpoint = attempt.checkpoint if attempt else None
        verdict = judge(
            error,
            failures=leader.failures,
            claims=leader.claims,
            max_attempts=leader.max_attempts,
            forward=checkpoint is not None and checkpoint.offset > before,
            settings=settings,
            random=self._random,
        )
        log.warn(
            "job {job}: attempt {attempt} at {source}: {code}: {error}",
            job=leader.job,
            transfer=leader.id,
            attempt=leader.attempt,
            source=short_source(leader.source.shown),
            code=error.code,
            error=error.full,
        )
        goes_on = verdict.state is State.PENDING and not error.bounded
        next_checkpoint = checkpoint if goes_on else None
        return Outcome(
            leader,
            verdict.state,
            verdict.failures,
            pause=verdict.pause,
            error=error,
            checkpoint=next_checkpoint,
            placing=attempt is not None and attempt.placing and goes_on,
            bytes_done=attempt.meters[0].bytes_done if attempt and next_checkpoint else 0,
        )


def _awaiting(attempt: Attempt, lease: Lease, awaited: RoomAwaited) -> Outcome:
    """Return the outcome of an attempt that waits for room: nothing of it counts."""
    leader = lease.leader
    log.info(
        "job {job}: {source} waits for room at {destination}: {wanted}",
        job=leader.job,
        transfer=leader.id,
        source=short_source(leader.source.shown),
        destination=leader.destination,
        wanted=size(awaited.wanted) if awaited.wanted else "its size is not known",
    )
    return Outcome(
        leader,
        State.PENDING,
        leader.failures,
        checkpoint=attempt.checkpoint,
        bytes_done=leader.sent if attempt.checkpoint else 0,
        cleaned=leader.lease == 1,  # Otherwise an earlier attempt may have left something that was not looked for.
        room_wanted=awaited.wanted,
    )


def _amount(moved: int | None, seconds: float, *, whole: bool) -> str:
    """Return how much moved, how long that took, and how fast, where the ``whole`` file moved and took long enough."""
    if moved is None:
        return f", in {seconds:.1f} s"
    rate = f", {size(moved / seconds)}/s" if whole and moved and seconds >= SHORTEST_RATED else ""
    return f", {size(moved)} in {seconds:.1f} s{rate}"


def _bug(lease: Lease) -> InternalError:
    """Log the current unexpected error, and return the error that the client sees."""
    log.failure("job {job}: an unexpected error, a bug", job=lease.leader.job, transfer=lease.leader.id)
    return InternalError()


async def _hurried(work: Coroutine[Any, Any, T], tools: TransferTools) -> T | None:
    """Do something for an attempt that was cancelled, within ``CLEARING`` seconds; return None if it takes longer."""
    try:
        return await Deferred.fromCoroutine(work).addTimeout(CLEARING, tools.clock)
    except TookTooLong:
        return None


async def _closed(attempt: Attempt, lease: Lease) -> None:
    """Close an attempt; an error is logged, and the outcome is written nevertheless."""
    try:
        await attempt.close()
    except CancelledError:
        raise
    except Exception:
        _bug(lease)
