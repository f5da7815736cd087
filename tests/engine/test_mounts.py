"""Moving to mounts that refuse, lie and keep less: each file is there whole, or is said not to be.

Every operation of a file system, every answer, every way of overwriting, on either side of the sizes where the way to
write a file changes: all are moved at once to one mount, and each test looks at all of what became of them.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.jobs.values import Overwrite, State
from tests.engine.mounts import EMPTY, HUGE, LARGE, PART, SMALL, TARGET, Move, Moves, over, run
from tests.engine.outcome import lines
from tests.engine.rig import Rig
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import mounted

Row = tuple[Misbehaviour, ...]

AT_ONCE = 32
"""Transfers under way."""
SIZES = (EMPTY, SMALL, LARGE)


def refusing(operation: str, *errors: str, path: str = "*", times: int = 0) -> list[Row]:
    return [(Misbehaviour(operation, error, path=path, times=times),) for error in errors]


def one(operation: str, does: Does, path: str = "*", error: str | None = None, times: int = 0) -> Row:
    return (Misbehaviour(operation, error, does, path=path, times=times),)


UNSUPPORTED = ("EPERM", "EINVAL", "ENOTSUP", "EIO")
"""How mounts say that they do not do something; ENOSYS, which the kernel remembers, has a test of its own."""

WITHOUT: list[Row] = [
    *refusing("chmod", *UNSUPPORTED, "ENOSYS", "EROFS"),
    *refusing("utimens", *UNSUPPORTED, "ENOSYS", "EROFS"),
    *refusing("fsync", "EPERM", "EINVAL", "ENOTSUP"),
    *refusing("fsyncdir", *UNSUPPORTED),
    *refusing("link", *UNSUPPORTED, "EMLINK"),
    *refusing("ftruncate", *UNSUPPORTED, "ENOSYS"),
    *refusing("statfs", *UNSUPPORTED, "ENOSYS"),
    *refusing("opendir", *UNSUPPORTED, "EACCES"),
    *refusing("readdir", *UNSUPPORTED),
    *refusing("direct", "EINVAL", "ENOTSUP"),
    *[one(operation, Does.NOTHING) for operation in ("chmod", "utimens", "ftruncate", "readdir", "statfs")],
    one("write", Does.SHORT),
]
"""What a file arrives without."""

PASSING: list[Row] = [
    row
    for operation in ("create", "write", "flush", "fsync", "rename", "link", "mkdir", "chmod", "getattr")
    for row in refusing(operation, "EIO", times=1)
] + [one("flush", Does.LOSES, error=error, times=1) for error in ("EIO", "EDQUOT")]
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
FATAL_OVER: list[Row] = refusing("rename", "EIO", "EACCES", "EROFS", "ENOSPC", "EDQUOT", "ESTALE", path=PART)
"""What no file replaces another with."""

DOUBTFUL: list[Row] = [
    *refusing("fsync", "EIO", "ENOSPC", "EDQUOT"),
    *refusing("mkdir", "EACCES", "ENOSPC", "EPERM", "EIO"),
    *refusing("open", "EIO", "EACCES", "EINVAL"),
    *refusing("getattr", "EIO", "EACCES", "ENOENT", path=TARGET),
    *refusing("getattr", "EIO", "ENOENT", path=PART),
    *refusing("rename", "EIO", "EPERM", "EINVAL", "EXDEV", "ENOENT"),
    *refusing("link", "EIO", "EXDEV", "EACCES", "EEXIST", "ENOENT", "EINVAL"),
    *refusing("unlink", "EPERM", "EACCES", "EIO", "EBUSY"),
    *refusing("read", "EIO", "EACCES"),
    *refusing("truncate", "EIO"),
    (*refusing("link", "EPERM")[0], *refusing("rename", "EIO")[0]),
    (*refusing("link", "EPERM")[0], *refusing("unlink", "EPERM")[0]),
    # What was done is said to have failed, as where an answer was lost and the request repeated.
    *[one("rename", Does.ALL, error=error) for error in ("EIO", "ENOENT")],
    *[one("link", Does.ALL, error=error) for error in ("EIO", "EEXIST")],
    *[one("unlink", Does.ALL, error=error) for error in ("EIO", "ENOENT")],
    *[one("mkdir", Does.ALL, error=error) for error in ("EIO", "EEXIST")],
    one("create", Does.NOTHING, error="EEXIST"),
    one("flush", Does.ALL, error="EIO"),
    # What was not done is said to have been.
    *[one(operation, Does.NOTHING) for operation in ("rename", "link", "unlink", "mkdir")],
    (*one("link", Does.NOTHING), *one("unlink", Does.NOTHING)),
    # Less is kept than is said.
    *[one(operation, Does.LOSES) for operation in ("write", "flush", "fsync", "release", "rename", "link")],
    *[one(operation, Does.LOSES) for operation in ("chmod", "utimens")],
    *[one("write", does) for does in (Does.NOTHING, Does.HALF)],
    # Looks and reads that tell something else.
    *[one("getattr", does, path=path) for does in (Does.HALF, Does.NOTHING) for path in (PART, TARGET)],
    *[one("read", does) for does in (Does.HALF, Does.NOTHING)],
]
"""What may end either way."""

WORDS = {
    "ENOSPC": "no space is left",
    "EDQUOT": "quota",
    "EFBIG": "larger than its file system allows",
    "EXDEV": "another file system",
    "ENOENT": "does not exist",
}
"""What an error is called where the system's words for it say less."""


def huge(rows: Iterable[Row], kind: str) -> list[Move]:
    """Return a move of a huge file for every row, in one way of overwriting after the other."""
    ways = list(Overwrite)
    return [Move(row, ways[number % len(ways)], HUGE, kind) for number, row in enumerate(rows)]


MOVES: list[Move] = [
    *over(WITHOUT, SIZES, kind="without"),
    *huge((row for row in WITHOUT if row[0].does is not Does.SHORT), "without"),
    *over(PASSING, SIZES, kind="passing"),
    *huge(PASSING, "passing"),
    *over(FATAL, SIZES, kind="fatal"),
    *over(FATAL_WITH_BYTES, (SMALL, LARGE), kind="fatal"),
    *huge([*FATAL, *FATAL_WITH_BYTES], "fatal"),
    *[move for move in over(FATAL_OVER, SIZES, kind="fatal") if move.before is not None],
    *over(DOUBTFUL, SIZES, kind="doubtful"),
    *huge(DOUBTFUL, "doubtful"),
]


async def _moved(directory: Path) -> Moves:
    sources = directory / "sources"
    sources.mkdir()
    with mounted(directory / "mount") as mount:
        destinations: dict[str, dict[str, Any]] = {
            "sources": {"url": sources.as_uri(), "max_active": AT_ONCE},
            "mount": {"url": mount.url, "max_active": AT_ONCE},
        }
        rig = await Rig(reactor, directory).open(destinations, transfers={"idle_timeout": "30s"})
        try:
            await rig.engine(max_active=AT_ONCE)
            return await run(rig, mount, sources, MOVES)
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
    """What failed left what was there before."""
    wrong = [outcome for outcome in moved.outcomes if not outcome.untouched]
    assert not wrong, lines(wrong)


def test_arriving_without(moved: Moves) -> None:
    """A file arrives, at its first attempt, without what a mount does not do."""
    wrong = [outcome for outcome in moved.of("without") if (outcome.state, outcome.attempt) != (State.COMPLETED, 1)]
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
    """What failed for one error is said to have failed for that."""
    wrong = []
    for move, outcome in zip(moved.moves, moved.outcomes, strict=True):
        errors = {each.error for each in move.misbehaviours if each.error}
        words = [word for error in errors for word in (os.strerror(getattr(errno, error)), WORDS.get(error, "?"))]
        if outcome.state is State.FAILED and len(errors) == 1 and not outcome.says(*words):
            wrong.append(outcome)
    assert not wrong, lines(wrong)


def test_nothing_beside(moved: Moves) -> None:
    """No part file is left where one can be removed."""
    wrong = [
        outcome
        for move, outcome in zip(moved.moves, moved.outcomes, strict=True)
        if outcome.left and all(each.operation != "unlink" for each in move.misbehaviours)
    ]
    assert not wrong, lines(wrong)


def test_nothing_stays_open(moved: Moves) -> None:
    """No file of the mount is open after all of it."""
    assert not moved.opened


def test_every_misbehaviour_was_met(moved: Moves) -> None:
    """Nothing stands in the table that never came about."""
    met: dict[Row, int] = {}
    for move, times in zip(moved.moves, moved.met, strict=True):
        met[move.misbehaviours] = met.get(move.misbehaviours, 0) + times
    assert not [row for row, times in met.items() if not times]
