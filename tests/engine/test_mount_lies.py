"""Mounts that lie in ways that only the content shows, or in several at once, and the lies of two that were met."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_twisted
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor

from datamover.jobs.values import State
from tests.engine.mounts import EMPTY, HUGE, LARGE, PART, SMALL, TARGET, WRITING, MountRig, Move, Way, over, possible
from tests.engine.outcome import There, lines
from tests.engine.rig import file, parts, place
from tests.servers.mounts.misbehaviour import OPERATIONS, Does, Misbehaviour, Times
from tests.servers.mounts.mount import mounted

EXAMPLES = 30
TOGETHER = 12
"""Moves of one example."""
SECOND = 10**9


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[MountRig]:
    with mounted(tmp_path / "mount") as mount:
        rig = await MountRig(reactor, tmp_path, mount).open()
        yield rig
        await rig.close()


LESS = [
    Misbehaviour("write", does=Does.CORRUPTS),
    Misbehaviour("write", does=Does.HALF),
    Misbehaviour("flush", does=Does.LOSES),
    Misbehaviour("release", does=Does.LOSES),
    Misbehaviour("rename", does=Does.LOSES),
]


@pytest_twisted.ensureDeferred
async def test_reading_back(rig: MountRig) -> None:
    """With verify = "read-back" nothing is COMPLETED whose bytes are not there, and what was before is, as it was."""
    rows = [*[(each,) for each in LESS], *[(Misbehaviour("link", "EPERM"), each) for each in LESS]]
    moves = over(rows, (SMALL, LARGE), destination="careful")
    # Amid a file that has its size.
    hole = Misbehaviour("write", does=Does.NOTHING, skip=3, times=1)
    moves += [Move((hole,), way, HUGE, destination="careful", attempts=1) for way in WRITING]

    ended = await rig.run(moves)

    for move, outcome in ended:
        renamed = move.misbehaviours[-1].operation == "rename"
        assert outcome.whole_or_said, outcome
        # A rename that loses is none that a new file needs, and all that would bring an old one back.
        assert (outcome.state is State.COMPLETED) is (renamed and move.way is Way.NEW and len(move.misbehaviours) == 1)
        assert outcome.untouched or renamed, outcome


@pytest_twisted.ensureDeferred
async def test_reading_back_again(rig: MountRig) -> None:
    """What was read back and found wrong is brought anew."""
    wrong_once = Misbehaviour("write", does=Does.CORRUPTS, times=1)

    ended = await rig.run(over([(wrong_once,)], (SMALL, LARGE), destination="careful"))

    assert [outcome.state for outcome in ended.outcomes] == [State.COMPLETED] * len(ended.outcomes)
    assert [outcome.attempt for outcome in ended.outcomes] == [2] * len(ended.outcomes)
    assert all(outcome.there is There.WHOLE and outcome.error for outcome in ended.outcomes)
    assert {outcome.error["code"] for outcome in ended.outcomes if outcome.error} == {"CHECKSUM_MISMATCH"}
    assert not parts(rig.mount.back)


@pytest_twisted.ensureDeferred
async def test_close_tells_the_quota(rig: MountRig) -> None:
    """A mount that says only at close(2) that the quota is used up has the file fail, and nothing under its name."""
    quota, unlinked = Misbehaviour("flush", "EDQUOT", Does.LOSES), Misbehaviour("link", "EPERM")

    ended = await rig.run(
        [
            Move((quota, unlinked), Way.NEW, size, destination=destination)
            for size in (40_000, 70_000, 3_000_000, 25_000_000)
            for destination in ("mount", "careful")
        ]
    )

    for outcome in ended.outcomes:
        assert (outcome.state, outcome.there, outcome.left) == (State.FAILED, There.BEFORE, ())
        assert outcome.error is not None
        assert outcome.error["code"] == "QUOTA_EXCEEDED"


@pytest.mark.parametrize(
    ("when", "times", "kept"),
    [
        (datetime(1965, 1, 2, tzinfo=UTC), Times(), True),
        (datetime(1965, 1, 2, tzinfo=UTC), Times(step=2 * SECOND), True),
        (datetime(2120, 1, 2, tzinfo=UTC), Times(), True),
        (datetime(1965, 1, 2, tzinfo=UTC), Times(wrap=32), False),
        (datetime(2120, 1, 2, tzinfo=UTC), Times(wrap=32), False),
        (datetime(1965, 1, 2, tzinfo=UTC), Times(earliest=0), False),
        (datetime(1975, 1, 2, tzinfo=UTC), Times(earliest=315_532_800 * SECOND), False),
        (datetime(2001, 1, 2, tzinfo=UTC), Times(step=2 * SECOND), True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_times(rig: MountRig, when: datetime, times: Times, kept: bool) -> None:
    """A file's time is what it was, where the mount can hold it; else that of its arrival, which is told."""
    for size in (SMALL, LARGE):
        rig.content(size)
        os.utime(rig.sources / f"{size}", (when.timestamp(), when.timestamp()))
    rig.mount.tell(times=times)
    started = datetime.now(UTC).timestamp()

    files = [file(place("sources", f"{size}"), "mount", f"{size}") for size in (SMALL, LARGE)]
    job, _ = await rig.rig.moved(*files)

    assert job.state is State.COMPLETED
    events = await rig.rig.store.events(job=job.id, limit=1000)
    without = {event.file: event.details["without"] for event in events if event.kind == "without"}
    for number, size in enumerate((SMALL, LARGE)):
        shown = (rig.mount.at / f"{size}").stat().st_mtime
        if kept:
            assert 0 <= when.timestamp() - shown < 2
            assert number not in without
        else:
            assert shown >= started - 2
            assert [lack["ability"] for lack in without[number]] == ["set-modified"]


ERRORS = ("EPERM", "EINVAL", "ENOTSUP", "EIO", "ENOSPC", "EDQUOT", "EACCES", "ENOENT", "EEXIST", "ESTALE", None)
"""Not ENOSYS: the kernel remembers it, and does not ask again."""
UNSEEN = frozenset({"read", "write"})
"""Where a lie may leave a file its size, so that only reading back shows it."""


def _every() -> Iterator[Misbehaviour]:
    for operation, error, does in itertools.product(sorted(OPERATIONS), ERRORS, Does):
        with suppress(ValueError):
            yield Misbehaviour(operation, error, does)


MISBEHAVIOURS = st.builds(
    lambda what, path, skip, times: replace(what, path=path, skip=skip, times=times),
    st.sampled_from(list(_every())),
    st.sampled_from(["*", TARGET, PART]),
    st.integers(0, 2),
    st.integers(0, 2),
)


@st.composite
def moves(draw: st.DrawFn) -> Move:
    """Return a move with two or three misbehaviours, from which it can be known what is there."""
    row = tuple(draw(st.lists(MISBEHAVIOURS, min_size=2, max_size=3)))
    lies = {each.operation for each in row if each.error is None or each.does is not Does.NOTHING}
    destinations = ["careful"] if lies & UNSEEN else ["mount", "careful"]
    move = Move(
        row,
        draw(st.sampled_from(Way)),
        draw(st.sampled_from([EMPTY, SMALL, LARGE])),
        "",
        draw(st.sampled_from(destinations)),
    )
    assume(possible(move))
    return move


@settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(moves(), min_size=TOGETHER, max_size=TOGETHER))
@pytest_twisted.ensureDeferred
async def test_combinations(rig: MountRig, moves: list[Move]) -> None:
    """Whatever two or three misbehaviours come together, what is COMPLETED is there whole."""
    ended = await rig.run(moves)

    wrong = [outcome for outcome in ended.outcomes if not outcome.whole_or_said]
    assert not wrong, lines(wrong)
    assert not ended.opened
