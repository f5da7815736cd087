"""Moving to file servers that refuse, lie and keep less: each file is there whole, or is said not to be.

Every request of SFTP, every answer, every way of overwriting, on either side of the sizes where the way to write a file
changes: all are moved at once, and each test looks at all of what became of them.
"""

import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.jobs.values import State
from tests.engine.file_servers import Move, Moves, Server, ServerRig, each_way_once, needed, over
from tests.engine.misbehaving import (
    CUT,
    EITHER,
    FATAL,
    FATAL_NEW,
    FATAL_WITH_BYTES,
    LESS,
    LOOKS,
    NAMING,
    NEVER_REMOVED,
    PASSING,
    WIDE,
    WIDE_FATAL,
    WITHOUT,
)
from tests.engine.mounts import EMPTY, HUGE, LARGE, MODIFIED, SMALL, WRITING, Way
from tests.engine.outcome import Outcome, There, lines
from tests.servers.wayward.misbehaviour import (
    CLOSE,
    FSETSTAT,
    FSTAT,
    FSYNC,
    LSTAT,
    NO_SPACE,
    NO_SUCH_FILE,
    OP_UNSUPPORTED,
    OPEN,
    QUOTA,
    READ,
    REALPATH,
    REMOVE,
    RMDIR,
    STAT,
    WRITE,
    Misbehaviour,
)
from tests.servers.wayward.misbehaviour import Way as Does

MODE = 0o644
"""Of files at a destination whose configuration does not say."""
SIZES = (EMPTY, SMALL, LARGE)
OVERS = (Way.ALWAYS, Way.IF_DIFFERENT)
WORDS = {
    NO_SUCH_FILE: "does not exist",
    NO_SPACE: "no space is left",
    QUOTA: "quota",
    OP_UNSUPPORTED: "the server has no rename",
}
"""What an answer is called where the server's words for it say less."""
LIES = (
    "the destination holds",
    "the server answers: Failure",
    "no space is left",
    "has not kept what it took",
    "the server said OK",
    "tells no size",
    "changed while",
    "cannot be continued",
    "is not there once it is closed",
)
"""What is said of what a server says and then shows not to be so."""

BY_HANDLE = {OPEN, CLOSE, WRITE, FSETSTAT, FSTAT, FSYNC}
"""The requests that a huge file asks differently from a large one."""
OF_WHAT_IS_THERE = {*LOOKS, *NAMING, REALPATH, OPEN, READ, REMOVE}
"""Those that may tell a file that is to stay from none."""


def spread(servers: list[Server], **more: Any) -> list[Move]:
    """Return moves to every server, of every size and in every way, though not all of one with all of the other."""
    return [
        Move(server, way, size, **more)
        for number, server in enumerate(servers)
        for size, ways in (
            (EMPTY, (WRITING[number % len(WRITING)],)),
            (SMALL, WRITING),
            (LARGE, (Way.NEW, OVERS[number % len(OVERS)])),
        )
        for way in ways
    ]


def huge(servers: list[Server], **more: Any) -> list[Move]:
    """Return a huge file's move to one of those servers that differ in no more than the code of an answer."""
    alike = {tuple((each.request, each.way) for each in server.misbehaviours): server for server in servers}
    return each_way_once(asked(list(alike.values()), BY_HANDLE), HUGE, **more)


def asked(servers: list[Server], requests: set[str]) -> list[Server]:
    """Return those that do something else when they are asked one of these."""
    return [server for server in servers if any(each.request in requests for each in server.misbehaviours)]


MOVES: list[Move] = [
    *spread(WITHOUT, kind="without"),
    *huge(WITHOUT, kind="without"),
    *spread(NEVER_REMOVED, kind="never removed"),
    *spread(PASSING, kind="passing"),
    *huge(PASSING, kind="passing"),
    *over(CUT, (SMALL, LARGE), (Way.NEW, Way.ALWAYS), kind="passing", alone=True),
    *spread(FATAL, kind="fatal"),
    *huge(FATAL, kind="fatal"),
    *over(FATAL_WITH_BYTES, (SMALL, LARGE), kind="fatal"),
    *over(FATAL_NEW, SIZES, (Way.NEW,), kind="fatal"),
    *spread(EITHER, kind="either"),
    *spread(LESS, kind="either"),
    *over(LESS, (SMALL,), (Way.NEW, Way.ALWAYS), kind="either", attempts=1),
    *huge(LESS, kind="either"),
    *each_way_once(WIDE, HUGE, kind="passing"),
    *each_way_once(WIDE_FATAL, HUGE, kind="fatal"),
    *over(
        asked([*WITHOUT, *NEVER_REMOVED, *FATAL, *EITHER, *LESS], OF_WHAT_IS_THERE), (SMALL,), (Way.OTHER,), kind="kept"
    ),
]


async def _moved(directory: Path) -> Moves:
    rig = await ServerRig(reactor, directory).open(needed(MOVES))
    try:
        return await rig.run(MOVES)
    finally:
        await rig.close()


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moves:
    """Everything in the table, moved."""
    moves: Moves = pytest_twisted.blockon(Deferred.fromCoroutine(_moved(tmp_path_factory.mktemp("servers"))))
    return moves


def test_whole_or_said(moved: Moves) -> None:
    """What is COMPLETED is there whole, under its name; what is not has FAILED, with a reason."""
    wrong = [outcome for outcome in moved.outcomes if not outcome.whole_or_said]
    assert not wrong, lines(wrong)


def test_nothing_new_is_left(moved: Moves) -> None:
    """What failed left what was there before, as far as the server let anybody."""
    wrong = [outcome for move, outcome in moved if not outcome.untouched and outcome.there not in excused(move)]
    assert not wrong, lines(wrong)


def excused(move: Move) -> set[There]:
    """Return what nobody can help being there."""
    found = set()
    wrong = move.server.misbehaviours
    hidden = {each.request for each in wrong if each.code == NO_SUCH_FILE and each.way is Does.REFUSES}
    done = [each for each in wrong if each.way is Does.DOES_AND_REFUSES and each.request in NAMING]
    if {STAT, LSTAT} <= hidden or done:
        found.add(There.WHOLE)
    if any(each.request == REMOVE for each in wrong):
        found.add(There.OTHER)
    return found


def test_what_is_to_stay(moved: Moves) -> None:
    """A file that is not to be replaced is not, whatever the server says."""
    wrong = [outcome for outcome in moved.of("kept") if outcome.state is not State.FAILED]
    wrong += [outcome for outcome in moved.of("kept") if outcome.there is not There.BEFORE]
    assert not wrong, lines(wrong)


def test_arriving_without(moved: Moves) -> None:
    """A file arrives, at its first attempt, without what a server does not do."""
    wrong = [outcome for outcome in moved.of("without") if (outcome.state, outcome.attempt) != (State.COMPLETED, 1)]
    assert not wrong, lines(wrong)


def test_arriving_where_nothing_is_removed(moved: Moves) -> None:
    """A file arrives where nothing may be removed; what is left beside it is told."""
    wrong = []
    for (move, outcome), events in zip(moved, moved.events, strict=True):
        told = {lack["ability"] for kind, details in events if kind == "without" for lack in details["without"]}
        if move.kind == "never removed" and (
            outcome.state is not State.COMPLETED or ("remove" in told) is not bool(outcome.left)
        ):
            wrong.append(outcome)
    assert not wrong, lines(wrong)


def test_what_it_went_without_is_told(moved: Moves) -> None:
    """What a file went without is told with it, in words, and nothing that it has."""
    wrong = []
    for (move, outcome), events, status in zip(moved, moved.events, moved.statuses, strict=True):
        told = [lack for kind, details in events if kind == "without" for lack in details["without"]]
        if move.kind != "without" or status is None or any(each.way in UNSEEN for each in move.server.misbehaviours):
            continue
        missing = {
            "set-mode": stat.S_IMODE(status.st_mode) != MODE,
            "set-modified": status.st_mtime != MODIFIED,
        }
        found = sorted(lack["ability"] for lack in told if lack["ability"] in missing)
        if found != sorted(ability for ability in missing if missing[ability]):
            wrong.append(outcome)
        if not all(": " in lack["message"] for lack in told):
            wrong.append(outcome)
    assert not wrong, lines(wrong)


UNSEEN = (Does.SHIFTS_TIMES, Does.NO_TIMES, Does.NO_MODE)
"""Where it is not seen what a file has."""


def test_errors_pass(moved: Moves) -> None:
    """What was refused once, or cut short, is tried again, and arrives."""
    wrong = [outcome for outcome in moved.of("passing") if outcome.state is not State.COMPLETED]
    assert not wrong, lines(wrong)


def test_fatal(moved: Moves) -> None:
    """What the server keeps refusing fails."""
    wrong = [outcome for outcome in moved.of("fatal") if outcome.state is not State.FAILED]
    assert not wrong, lines(wrong)


def test_reasons(moved: Moves) -> None:
    """What failed for what a server refused says so, in its words; what it kept less of is said to be less."""
    wrong = [outcome for move, outcome in moved if outcome.state is State.FAILED and not told(move, outcome)]
    assert not wrong, lines(wrong)


def told(move: Move, outcome: Outcome) -> bool:
    """Tell whether the reason is one that the server gave."""
    never_removed = any(each.request == REMOVE for each in move.server.misbehaviours)
    if (move.way is Way.OTHER or never_removed) and outcome.says("exists"):
        return True
    words = [word for each in move.server.misbehaviours for word in _words(each)]
    return outcome.says(*words)


def _words(each: Misbehaviour) -> tuple[str, ...]:
    if each.way is Does.REFUSES and each.code != NO_SUCH_FILE:
        return (each.words, WORDS.get(each.code, each.words))
    return (each.words, WORDS.get(each.code, each.words), *LIES)


def test_nothing_beside(moved: Moves) -> None:
    """No file of ours is left beside the target where it can be seen and removed."""
    wrong = [outcome for move, outcome in moved if outcome.left and not any(map(_keeps, move.server.misbehaviours))]
    assert not wrong, lines(wrong)


def _keeps(misbehaviour: Misbehaviour) -> bool:
    """Tell whether nobody can remove a part file."""
    hidden = misbehaviour.request == STAT and misbehaviour.code == NO_SUCH_FILE
    return hidden or misbehaviour.request in (REMOVE, RMDIR)


def test_nothing_stays_open(moved: Moves) -> None:
    """No file of the server is open after all of it, but for those whose handle was not told."""
    untold = tuple(
        directory
        for move, directory in zip(moved.moves, moved.directories, strict=True)
        if any(each.request == OPEN and each.way is Does.DOES_AND_REFUSES for each in move.server.misbehaviours)
    )
    assert [path for path in moved.opened if not path.startswith(untold)] == []


def test_every_misbehaviour_was_met(moved: Moves) -> None:
    """Nothing stands in the table that never came about."""
    assert [str(server) for server, times in moved.met.items() if not times] == []
