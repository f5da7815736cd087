"""Many files moved to one misbehaving mount at once, each to a directory with misbehaviours of its own."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from datamover.jobs.values import NewJob, Overwrite, State
from tests.engine.outcome import Outcome, There, look
from tests.engine.rig import Rig, file, parts, place
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import Mount

EMPTY, SMALL, LARGE, HUGE = 0, 3_000, 300_000, 20_000_000
"""Sizes of files: a small one is written and placed together with others, a huge one past the page cache."""
MODIFIED = 1_500_000_000
"""The sources' modification time, POSIX seconds."""
PATIENCE = 300.0
"""Seconds that all of them may take, on a machine that has much else to do."""
AT_ONCE = 32
"""Transfers under way."""
TARGET, PART = "*file", "*.part"
"""Patterns of the paths that a file has at its destination, at the end and until then."""


class Way(Enum):
    """What is under the target's name before, and what is to become of it."""

    NEW = "where nothing is"
    OTHER = "where something else is, which is to stay"
    ALWAYS = "over something else"
    IF_DIFFERENT = "over something else of the same size"

    @property
    def overwrite(self) -> Overwrite:
        return {Way.ALWAYS: Overwrite.ALWAYS, Way.IF_DIFFERENT: Overwrite.IF_DIFFERENT}.get(self, Overwrite.NEVER)

    def before(self, size: int) -> bytes | None:
        """Return what is under the target's name before a file of this size is moved there."""
        if self is Way.NEW:
            return None
        return b"\1" * (size or 1) if self is Way.IF_DIFFERENT else b"old"

    @property
    def path(self) -> str:
        """Where a file goes below its directory; where there is nothing yet, the target's own is to be made too."""
        return "new/file" if self is Way.NEW else "file"


WRITING = (Way.NEW, Way.ALWAYS, Way.IF_DIFFERENT)
"""The ways in which a file is to be there in the end."""


@dataclass(frozen=True, slots=True)
class Move:
    """One file to be moved, and what goes wrong about it; each has a directory of its own."""

    misbehaviours: tuple[Misbehaviour, ...]
    """Their paths are patterns of what is below the directory."""
    way: Way
    size: int
    kind: str = ""
    """What is expected of it."""
    destination: str = "mount"
    attempts: int = 2

    def __str__(self) -> str:
        wrong = "; ".join(f"{each} for {each.path}" for each in self.misbehaviours)
        return f"{self.size} bytes to {self.destination} {self.way.value}, {wrong or 'all is well'}"


@dataclass(slots=True)
class Moves:
    """What was moved, and how it ended."""

    moves: Sequence[Move]
    outcomes: list[Outcome] = field(default_factory=list)
    """In the order of the moves."""
    met: list[int] = field(default_factory=list)
    """How many calls went wrong about each."""
    events: list[list[tuple[str, Mapping[str, Any]]]] = field(default_factory=list)
    """Kind and details of what was told of each."""
    statuses: list[os.stat_result | None] = field(default_factory=list)
    """Of the target, past the mount."""
    opened: set[str] = field(default_factory=set)
    """Files of the mount that the service has open after all of them."""

    def __iter__(self) -> Iterator[tuple[Move, Outcome]]:
        return zip(self.moves, self.outcomes, strict=True)

    def of(self, kind: str) -> list[Outcome]:
        return [outcome for move, outcome in self if move.kind == kind]


class MountRig:
    """An engine that moves files from one directory, ``sources``, into a mount.

    That is the destination ``mount``, and ``careful``, which reads back.
    """

    def __init__(
        self, reactor: Any, directory: Path, mount: Mount, *, at: Path | None = None, delay: float = 0.0
    ) -> None:
        """``at`` is another mount on top of it, which may take ``delay`` seconds to bring there what it shows."""
        self.mount = mount
        self.at = at or mount.at
        self._reactor = reactor
        self._delay = delay
        self.sources = directory / "sources"
        self.rig = Rig(reactor, directory)
        self._numbers = count()
        self._content: dict[int, bytes] = {}

    async def open(self, **transfers: Any) -> "MountRig":
        self.sources.mkdir()
        tables: dict[str, dict[str, Any]] = {
            "sources": {"url": self.sources.as_uri()},
            "mount": {"url": self.at.as_uri()},
            "careful": {"url": self.at.as_uri(), "verify": "read-back"},
        }
        for table in tables.values():
            table["max_active"] = AT_ONCE
        await self.rig.open(tables, transfers=transfers)
        await self.rig.engine(max_active=AT_ONCE)
        return self

    async def close(self) -> None:
        await self.rig.close()

    def content(self, size: int) -> bytes:
        """Return what the source of so many bytes holds; it is made where it is not there yet."""
        if size not in self._content:
            self._content[size] = os.urandom(size)
            (self.sources / str(size)).write_bytes(self._content[size])
            os.utime(self.sources / str(size), (MODIFIED, MODIFIED))
        return self._content[size]

    async def run(self, moves: Sequence[Move]) -> Moves:
        """Move all at once, each into a directory of its own."""
        directories = [f"{next(self._numbers)}" for _ in moves]
        for directory, move in zip(directories, moves, strict=True):
            self.content(move.size)
            (self.mount.back / directory).mkdir()
            if (before := move.way.before(move.size)) is not None:
                (self.mount.back / directory / "file").write_bytes(before)
        self.mount.tell(
            *(
                replace(misbehaviour, path=f"{directory}/{misbehaviour.path}")
                for directory, move in zip(directories, moves, strict=True)
                for misbehaviour in move.misbehaviours
            )
        )
        jobs = await self.rig.store.submit(
            [
                NewJob(
                    files=(file(place("sources", str(move.size)), move.destination, f"{directory}/{move.way.path}"),),
                    owner="tester",
                    overwrite=move.way.overwrite,
                    max_attempts=move.attempts,
                )
                for directory, move in zip(directories, moves, strict=True)
            ]
        )
        ended = Moves(moves)
        deadline = time.monotonic() + PATIENCE
        for directory, move, job in zip(directories, moves, jobs, strict=True):
            await self.rig.store.wait(job.id, max(0.0, deadline - time.monotonic()))
            await self._end(ended, move, self.mount.back / directory, job.id)
        counts = iter(self.mount.met())
        ended.met = [sum(next(counts) for _ in move.misbehaviours) for move in moves]
        ended.opened = open_below(self.at)
        return ended

    async def _end(self, ended: Moves, move: Move, directory: Path, job: int) -> None:
        (record,) = await self.rig.store.files(job)
        target = directory / move.way.path
        latest = time.monotonic() + self._delay
        while (there := look(target, self.content(move.size), move.way.before(move.size))) is not There.WHOLE:
            if record.state is not State.COMPLETED or time.monotonic() > latest:
                break
            await deferLater(self._reactor, 0.01)
        ended.outcomes.append(Outcome.of(str(move), record, there, parts(directory)))
        ended.statuses.append(target.stat() if target.exists() else None)
        events = await self.rig.store.events(job=job, limit=1000)
        ended.events.append([(event.kind, event.details) for event in events])


def open_below(directory: Path) -> set[str]:
    """Return what this process has open below a directory."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            path = os.readlink(descriptor)
        except FileNotFoundError:  # That of the listing itself.
            continue
        if path.startswith(f"{directory}/"):
            found.add(path)
    return found


def over(
    rows: Iterable[tuple[Misbehaviour, ...]], sizes: Sequence[int], ways: Sequence[Way] = WRITING, **more: Any
) -> list[Move]:
    """Return moves of every size, in every way, for every row of misbehaviours."""
    return [Move(row, way, size, **more) for row in rows for way in ways for size in sizes]


def possible(move: Move) -> bool:
    """Tell whether it can be known what is there: a mount may show any file as an empty one."""
    looks = any(each.operation == "getattr" and each.does is not Does.ALL for each in move.misbehaviours)
    return not (looks and move.size == EMPTY and move.way is Way.IF_DIFFERENT)
