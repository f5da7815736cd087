"""File servers that lie in ways that only the content shows, or in several at once."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor

from datamover.jobs.values import State
from tests.engine.file_servers import Kind, Move, Server, ServerRig, over
from tests.engine.misbehaving import AT_ONCE, CODES, EITHER, LESS, NAMING, one
from tests.engine.mounts import EMPTY, HUGE, LARGE, SMALL, WRITING, Way
from tests.engine.outcome import There, lines
from tests.engine.rig import parts
from tests.servers.wayward.misbehaviour import (
    CLOSE,
    EXTENSIONS,
    NO_SPACE,
    NO_SUCH_FILE,
    QUOTA,
    READ,
    REQUESTS,
    WRITE,
    Misbehaviour,
    ways_of,
)
from tests.servers.wayward.misbehaviour import Way as Does

EXAMPLES = 30
TOGETHER = 12
"""Moves of one example."""
PLAIN, CAREFUL = Kind(), Kind(read_back=True)


@pytest_twisted.async_yield_fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """What opens a rig with a stock of places."""
    rig = ServerRig(reactor, tmp_path)
    yield rig.open
    await rig.close()


@pytest_twisted.async_yield_fixture
async def stocked(tmp_path: Path) -> AsyncIterator[ServerRig]:
    """A rig with a place for every move of every example, of what is tried again where one fails too."""
    number = 2 * EXAMPLES * TOGETHER
    rig = await ServerRig(reactor, tmp_path).open({PLAIN: number, CAREFUL: number})
    yield rig
    await rig.close()


CONTENT_LIES = [
    one(WRITE, Does.CORRUPTS),
    one(WRITE, Does.CORRUPTS, nth=1),
    one(WRITE, Does.KEEPS_HALF, nth=1),
    one(WRITE, Does.IGNORES, nth=1),
    one(READ, Does.FALSE),
]
"""What leaves a file its size, or may."""


@pytest_twisted.ensureDeferred
async def test_reading_back(opened: Callable[..., Any]) -> None:
    """With verify = "read-back" nothing is COMPLETED whose bytes are not there, and what was before is, as it was."""
    servers = [
        Server((lie,), without, read_back=True) for lie in CONTENT_LIES for without in ((), AT_ONCE[:1], EXTENSIONS)
    ]
    servers += [Server(server.misbehaviours, server.without, read_back=True) for server in LESS]
    # Renames and links that say OK, and placing refused though it was done.
    servers += [
        Server(server.misbehaviours, server.without, read_back=True)
        for server in EITHER
        if any(each.request in NAMING for each in server.misbehaviours)
    ]
    moves = over(servers, (SMALL, LARGE), attempts=1)
    # Amid a file that has its size.
    moves += [
        Move(Server((one(WRITE, Does.IGNORES, nth=3),), read_back=True, wide=wide), way, HUGE, attempts=1)
        for way in WRITING
        for wide in (False, True)
    ]
    rig = await opened({CAREFUL: len(servers) + 1, Kind(wide=True, read_back=True): 1})

    ended = await rig.run(moves)

    wrong = [outcome for outcome in ended.outcomes if not outcome.whole_or_said]
    wrong += [
        outcome
        for move, outcome in ended
        if move.server.misbehaviours[0] in CONTENT_LIES
        and (outcome.state, outcome.there) != (State.FAILED, There.BEFORE)
    ]
    assert not wrong, lines(wrong)
    assert not ended.opened


@pytest_twisted.ensureDeferred
async def test_reading_back_again(opened: Callable[..., Any]) -> None:
    """What was read back and found wrong is brought anew."""
    server = Server((one(WRITE, Does.CORRUPTS, nth=1),), read_back=True)
    rig = await opened({CAREFUL: 1})

    ended = await rig.run(over([server], (SMALL, LARGE)))

    assert [outcome.state for outcome in ended.outcomes] == [State.COMPLETED] * len(ended.outcomes)
    assert [outcome.attempt for outcome in ended.outcomes] == [2] * len(ended.outcomes)
    assert all(outcome.there is There.WHOLE and outcome.error for outcome in ended.outcomes)
    assert {outcome.error["code"] for outcome in ended.outcomes if outcome.error} == {"CHECKSUM_MISMATCH"}
    assert not parts(rig.directory)


SLOW = {Does.HANGS}
AMOUNTS = {Does.KEEPS_BELOW: (0, 1000, 100_000), Does.SHORT: (1, 1000), Does.TELLS: (0, 5, 10**12)}
SHIFTS = (3600, -(10**9))
HIDDEN = {Does.IGNORES, Does.KEEPS_BELOW, Does.KEEPS_HALF}
"""What may leave a file its size if some of its writes are done so, and others as they should be."""


@st.composite
def misbehaviours(draw: st.DrawFn) -> Misbehaviour:
    """Return one, of any request, in any way that does not take long."""
    request = draw(st.sampled_from(REQUESTS))
    way = draw(st.sampled_from([way for way in ways_of(request) if way not in SLOW]))
    amounts = SHIFTS if way is Does.SHIFTS_TIMES else AMOUNTS.get(way, (0,))
    return one(
        request,
        way,
        draw(st.sampled_from((*CODES, NO_SUCH_FILE, NO_SPACE, QUOTA))),
        amount=draw(st.sampled_from(amounts)),
        # What is cut short when a reader closes it was whole when it was looked at.
        having="writing" if request == CLOSE else draw(st.sampled_from((None, None, "there", "missing"))),
        name=draw(st.sampled_from(("*", "*", "file", ".datamover-*"))),
        nth=draw(st.sampled_from((None, 1, 2))),
    )


@st.composite
def moves(draw: st.DrawFn) -> Move:
    """Return a move with two or three misbehaviours, from which it can be known what is there."""
    row = tuple(draw(st.lists(misbehaviours(), min_size=2, max_size=3)))
    without = tuple(draw(st.lists(st.sampled_from(EXTENSIONS), max_size=2, unique=True)))
    unseen = any(
        each.way is Does.CORRUPTS or (each.request == WRITE and each.way in HIDDEN and each.nth is not None)
        for each in row
    )
    read_back = unseen or draw(st.booleans())
    move = Move(
        Server(row, without, read_back=read_back),
        draw(st.sampled_from(Way)),
        draw(st.sampled_from([EMPTY, SMALL, LARGE])),
        alone=True,
    )
    assume(possible(move))
    return move


def possible(move: Move) -> bool:
    """Tell whether it can be known what is there."""
    ways = {each.way for each in move.server.misbehaviours}
    # What is turned twice is as it was; a file may be told to be as large as it should be.
    return not ({Does.CORRUPTS, Does.FALSE} <= ways or (Does.TELLS in ways and move.size == EMPTY))


@settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(moves(), min_size=TOGETHER, max_size=TOGETHER))
@pytest_twisted.ensureDeferred
async def test_combinations(stocked: ServerRig, moves: list[Move]) -> None:
    """Whatever two or three misbehaviours come together, what is COMPLETED is there whole."""
    ended = await stocked.run(moves)

    wrong = [outcome for outcome in ended.outcomes if not outcome.whole_or_said]
    assert not wrong, lines(wrong)
