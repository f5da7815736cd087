"""Moving to mounts that refuse, lie and keep less: each file is there whole, or is said not to be.

Every operation of a file system, every answer, every way of overwriting, on either side of the sizes where the way to
write a file changes: all are moved at once to one mount, and each test looks at all of what became of them.
"""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.jobs.values import State
from tests.engine.mounts import (
    EMPTY,
    HUGE,
    LARGE,
    MODIFIED,
    PART,
    SMALL,
    TARGET,
    WRITING,
    MountRig,
    Move,
    Moves,
    Way,
    over,
    possible,
)
from tests.engine.outcome import Outcome, There, lines
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import mounted

Row = tuple[Misbehaviour, ...]

MODE = 0o644
"""Of files at a destination whose configuration does not say."""
SIZES = (EMPTY, SMALL, LARGE)


def refusing(operation: str, *errors: str, path: str = "*", times: int = 0) -> list[Row]:
    return [(Misbehaviour(operation, error, path=path, times=times),) for error in errors]


def one(operation: str, does: Does, path: str = "*", error: str | None = None, times: int = 0) -> Row:
    return (Misbehaviour(operation, error, does, path=path, times=times),)


UNSUPPORTED = ("EPERM", "EINVAL", "ENOTSUP", "EIO")
"""How mounts say that they do not do something; ENOSYS, which the kernel may remember, has a test of its own."""

WITHOUT: list[Row] = [
    *refusing("chmod", *UNSUPPORTED, "ENOSYS", "EROFS"),
    *refusing("utimens", *UNSUPPORTED, "ENOSYS", "EROFS"),
    *refusing("fsync", "EPERM", "EINVAL", "ENOTSUP"),
    *refusing("fsyncdir", *UNSUPPORTED),
    *refusing("link", *UNSUPPORTED, "EMLINK"),
    *[one(operation, Does.NOTHING) for operation in ("chmod", "utimens")],
    (*refusing("link", "EPERM")[0], *refusing("exclusive", "EINVAL")[0]),
    one("write", Does.SHORT),
]
"""What a file arrives without."""
PAST_THE_CACHE: list[Row] = refusing("direct", "EINVAL", "ENOTSUP")
"""Disks alone are written to in that way: no mount is to meet it."""

PASSING: list[Row] = [
    *[
        row
        for operation in ("create", "write", "flush", "fsync", "rename", "link", "mkdir", "chmod", "getattr")
        for row in refusing(operation, "EIO", times=1)
    ],
    *[one("flush", Does.LOSES, error=error, times=1) for error in ("EIO", "EDQUOT")],
    # What an attempt has left is looked for before the next.
    *[
        (*refusing("write", "EIO", times=1)[0], *refusing(operation, error)[0])
        for operation in ("opendir", "readdir")
        for error in UNSUPPORTED
    ],
    (*refusing("write", "EIO", times=1)[0], *one("readdir", Does.NOTHING)),
]
"""What another attempt mends."""

FATAL: list[Row] = [
    *refusing("create", "EACCES", "ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE"),
    *refusing("flush", "EIO", "ENOSPC", "EDQUOT", "EFBIG", "ESTALE"),
    *[one("flush", Does.LOSES, error=error) for error in ("EIO", "ENOSPC", "EDQUOT")],
    one("flush", Does.LOSES, path=PART, error="EDQUOT"),
]
"""What no file arrives with."""
FATAL_WITH_BYTES: list[Row] = [
    *refusing("write", "EIO", "ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EINVAL", "ESTALE"),
    one("write", Does.ALL, error="EIO"),
    one("write", Does.LOSES, error="ENOSPC"),
]
FATAL_OVER: list[Row] = refusing("rename", "EIO", "EACCES", "EROFS", "ENOSPC", "EDQUOT", "EINVAL", "ESTALE")
"""What no file replaces another with."""

EITHER: list[Row] = [
    *refusing("fsync", "EIO", "ENOSPC", "EDQUOT"),
    *refusing("mkdir", "EACCES", "ENOSPC", "EPERM", "EIO"),
    *refusing("open", "EIO", "EACCES", "EINVAL"),
    *refusing("getattr", "EIO", "EACCES", "ENOENT", path=TARGET),
    *refusing("getattr", "EIO", "ENOENT", path=PART),
    *refusing("rename", "EPERM", "EXDEV", "ENOENT"),
    *refusing("link", "EXDEV", "EACCES", "EEXIST", "ENOENT"),
    *refusing("unlink", "EPERM", "EACCES", "EIO", "EBUSY"),
    *refusing("read", "EIO", "EACCES"),
    (*refusing("link", "EPERM")[0], *refusing("rename", "EIO")[0]),
    (*refusing("link", "EPERM")[0], *refusing("exclusive", "EIO")[0]),
    (*refusing("link", "EPERM")[0], *refusing("unlink", "EPERM")[0]),
    # What was done is said to have failed, as where an answer was lost and the request repeated.
    *[one("rename", Does.ALL, error=error) for error in ("EIO", "ENOENT")],
    *[one("link", Does.ALL, error=error) for error in ("EIO", "EEXIST")],
    *[one("unlink", Does.ALL, error=error) for error in ("EIO", "ENOENT")],
    *[one("mkdir", Does.ALL, error=error) for error in ("EIO", "EEXIST")],
    one("create", Does.ALL, error="EIO"),
    one("create", Does.NOTHING, error="EEXIST"),
    one("flush", Does.ALL, error="EIO"),
    # What was not done is said to have been.
    *[one(operation, Does.NOTHING) for operation in ("rename", "link", "unlink", "mkdir")],
    (*one("link", Does.NOTHING), *one("unlink", Does.NOTHING)),
    (*refusing("link", "EPERM")[0], *one("rename", Does.NOTHING)),
    # Looks and reads that tell something else.
    *[one("getattr", does, path=path) for does in (Does.HALF, Does.NOTHING) for path in (PART, TARGET)],
    *[one("read", does) for does in (Does.HALF, Does.NOTHING)],
]
"""What may end either way."""
LESS: list[Row] = [
    *[one(operation, Does.LOSES) for operation in ("write", "flush", "fsync", "release", "rename", "link")],
    *[one(operation, Does.LOSES, times=1) for operation in ("flush", "rename", "link")],
    *[one(operation, Does.LOSES) for operation in ("chmod", "utimens")],
    *[one("write", does) for does in (Does.NOTHING, Does.HALF)],
    *[(*refusing("link", "EPERM")[0], *one(operation, Does.LOSES)) for operation in ("flush", "release", "rename")],
]
"""Mounts that keep less than they say."""

WORDS = {
    "ENOSPC": "no space is left",
    "EDQUOT": "quota",
    "EFBIG": "larger than its file system allows",
    "EXDEV": "another file system",
    "ENOENT": "does not exist",
    "EEXIST": "exists",
}
"""What an error is called where the system's words for it say less."""

LIES = ("the disk said", "the disk has not kept", "changed while", "sent were", WORDS["ENOENT"])
"""What is said of what a mount says and then shows not to be so."""


def huge(rows: Iterable[Row], kind: str, **more: Any) -> list[Move]:
    """Return a move of a huge file for every row, in one way after the other."""
    return [Move(row, WRITING[number % len(WRITING)], HUGE, kind, **more) for number, row in enumerate(rows)]


MOVES: list[Move] = [
    *over(WITHOUT, SIZES, kind="without"),
    *over(PAST_THE_CACHE, (HUGE,), kind="without"),
    *over(PASSING, SIZES, kind="passing"),
    *huge(PASSING[:11], "passing"),
    *over(FATAL, SIZES, kind="fatal"),
    *over(FATAL_WITH_BYTES, (SMALL, LARGE), kind="fatal"),
    *huge((*FATAL[-4:], *FATAL_WITH_BYTES), "fatal"),
    *over(FATAL_OVER, SIZES, (Way.ALWAYS, Way.IF_DIFFERENT), kind="fatal"),
    *filter(possible, over(EITHER, SIZES, kind="either")),
    *over(LESS, SIZES, kind="either"),
    *over(LESS, (SMALL, LARGE), kind="either", attempts=1),
    *huge(LESS, "either"),
    *over((*WITHOUT, *FATAL, *EITHER, *LESS), (SMALL,), (Way.OTHER,), kind="kept"),
]


async def _moved(directory: Path) -> Moves:
    with mounted(directory / "mount") as mount:
        rig = await MountRig(reactor, directory, mount).open()
        try:
            return await rig.run(MOVES)
        finally:
            await rig.close()


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moves:
    """Everything in the table, moved."""
    moves: Moves = pytest_twisted.blockon(Deferred.fromCoroutine(_moved(tmp_path_factory.mktemp("mounts"))))
    return moves


def test_whole_or_said(moved: Moves) -> None:
    """What is COMPLETED is there whole, under its name; what is not has FAILED, with a reason."""
    wrong = [outcome for outcome in moved.outcomes if not outcome.whole_or_said]
    assert not wrong, lines(wrong)


def test_nothing_new_is_left(moved: Moves) -> None:
    """What failed left what was there before, as far as the mount let anybody."""
    wrong = [outcome for move, outcome in moved if not outcome.untouched and outcome.there not in excused(move)]
    assert not wrong, lines(wrong)


def excused(move: Move) -> set[There]:
    """Return what nobody can help being there."""
    found: set[There] = set()
    for each in move.misbehaviours:
        done = each.does is Does.ALL and each.error is not None
        hidden = each.operation == "getattr" and each.error == "ENOENT" and each.path == TARGET
        if hidden or (done and each.operation in ("rename", "link")):
            found.add(There.WHOLE)
        if each.operation == "rename" and each.does is Does.LOSES and not each.times:
            # To put the old file back is to rename it, too.
            found.add(There.OTHER)
    return found


def test_what_is_to_stay(moved: Moves) -> None:
    """A file that is not to be replaced is not, whatever the mount says."""
    wrong = [outcome for outcome in moved.of("kept") if outcome.state is not State.FAILED]
    wrong += [outcome for outcome in moved.of("kept") if outcome.there is not There.BEFORE]
    assert not wrong, lines(wrong)


def test_arriving_without(moved: Moves) -> None:
    """A file arrives, at its first attempt, without what a mount does not do."""
    wrong = [outcome for outcome in moved.of("without") if (outcome.state, outcome.attempt) != (State.COMPLETED, 1)]
    assert not wrong, lines(wrong)


def test_what_it_went_without_is_told(moved: Moves) -> None:
    """What a file went without is told with it, in words, and nothing that it has."""
    wrong = []
    for (move, outcome), events, status in zip(moved, moved.events, moved.statuses, strict=True):
        told = [lack for kind, details in events if kind == "without" for lack in details["without"]]
        if move.kind != "without" or status is None:
            continue
        missing = {
            "set-mode": stat.S_IMODE(status.st_mode) != MODE,
            "set-modified": status.st_mtime != MODIFIED,
            "flush": move.misbehaviours[0].operation == "fsync",
        }
        found = sorted(lack["ability"] for lack in told if lack["ability"] in missing)
        if found != sorted(ability for ability in missing if missing[ability]):
            wrong.append(outcome)
        if not all(": " in lack["message"] for lack in told):
            wrong.append(outcome)
    assert not wrong, lines(wrong)


def test_errors_pass(moved: Moves) -> None:
    """What was refused once is tried again, and arrives."""
    wrong = [outcome for outcome in moved.of("passing") if outcome.state is not State.COMPLETED]
    assert not wrong, lines(wrong)


def test_fatal(moved: Moves) -> None:
    """What the disk keeps refusing fails."""
    wrong = [outcome for outcome in moved.of("fatal") if outcome.state is not State.FAILED]
    assert not wrong, lines(wrong)


def test_reasons(moved: Moves) -> None:
    """What failed for an error of the disk says which; what it kept less of is said to be less."""
    wrong = [outcome for move, outcome in moved if outcome.state is State.FAILED and not told(move, outcome)]
    assert not wrong, lines(wrong)


def told(move: Move, outcome: Outcome) -> bool:
    """Tell whether the reason is one that the mount gave."""
    if move.way is Way.OTHER and outcome.says("exists"):
        return True
    errors = [each.error for each in move.misbehaviours if each.error]
    words = [word for error in errors for word in (os.strerror(getattr(errno, error)), WORDS.get(error, "?"))]
    lies = any(each.error is None or each.operation == "getattr" for each in move.misbehaviours)
    return outcome.says(*words) or (lies and outcome.says(*LIES))


def test_nothing_beside(moved: Moves) -> None:
    """No file of ours is left beside the target where it can be seen and removed."""
    wrong = [outcome for move, outcome in moved if outcome.left and not any(map(_keeps, move.misbehaviours))]
    assert not wrong, lines(wrong)


def _keeps(misbehaviour: Misbehaviour) -> bool:
    """Tell whether nobody can remove a part file."""
    hidden = misbehaviour.operation == "getattr" and misbehaviour.error == "ENOENT"
    return hidden or misbehaviour.operation == "unlink"


def test_nothing_stays_open(moved: Moves) -> None:
    """No file of the mount is open after all of it."""
    assert not moved.opened


def test_every_misbehaviour_was_met(moved: Moves) -> None:
    """Nothing stands in the table that never came about, but for what must not."""
    met: dict[Row, int] = {}
    for move, times in zip(moved.moves, moved.met, strict=True):
        met[move.misbehaviours] = met.get(move.misbehaviours, 0) + times
    assert [row for row, times in met.items() if not times] == PAST_THE_CACHE
