"""Many files moved to one misbehaving mount at once, each to a directory with misbehaviours of its own."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from datamover.jobs.values import NewJob, Overwrite
from tests.engine.outcome import Outcome, look
from tests.engine.rig import Rig, file, parts, place
from tests.servers.mounts.misbehaviour import Misbehaviour
from tests.servers.mounts.mount import Mount

EMPTY, SMALL, LARGE, HUGE = 0, 3_000, 300_000, 25_000_000
"""Sizes of files: a small one is written and placed together with others, a huge one past the page cache."""
PATIENCE = 120.0
"""Seconds that all of them may take."""
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

    @property
    def before(self) -> bytes | None:
        """What is under the target's name before."""
        if self.way is Way.NEW:
            return None
        return b"\1" * (self.size or 1) if self.way is Way.IF_DIFFERENT else b"old"

    @property
    def path(self) -> str:
        """Where it goes below its directory; where there is nothing yet, the target's own is to be made too."""
        return "new/file" if self.way is Way.NEW else "file"

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
    opened: set[str] = field(default_factory=set)
    """Files of the mount that the service has open after all of them."""

    def __iter__(self) -> Iterator[tuple[Move, Outcome]]:
        return zip(self.moves, self.outcomes, strict=True)

    def of(self, kind: str) -> list[Outcome]:
        return [outcome for move, outcome in self if move.kind == kind]


async def run(rig: Rig, mount: Mount, sources: Path, moves: Sequence[Move]) -> Moves:
    """Move all at once, from the directory of the rig's destination ``sources`` into the mount."""
    content = {size: os.urandom(size) for size in {move.size for move in moves}}
    for size, data in content.items():
        (sources / str(size)).write_bytes(data)
    for number, move in enumerate(moves):
        (mount.back / str(number)).mkdir()
        if move.before is not None:
            (mount.back / str(number) / "file").write_bytes(move.before)
    told = [
        replace(misbehaviour, path=f"{number}/{misbehaviour.path}")
        for number, move in enumerate(moves)
        for misbehaviour in move.misbehaviours
    ]
    mount.tell(*told)
    jobs = await rig.store.submit(
        [
            NewJob(
                files=(file(place("sources", str(move.size)), move.destination, f"{number}/{move.path}"),),
                owner="tester",
                overwrite=move.way.overwrite,
                max_attempts=move.attempts,
            )
            for number, move in enumerate(moves)
        ]
    )
    ended = Moves(moves)
    for number, (move, job) in enumerate(zip(moves, jobs, strict=True)):
        await rig.store.wait(job.id, PATIENCE)
        (record,) = await rig.store.files(job.id)
        directory = mount.back / str(number)
        there = look(directory / move.path, content[move.size], move.before)
        ended.outcomes.append(Outcome.of(str(move), record, there, parts(directory)))
        events = await rig.store.events(job=job.id, limit=1000)
        ended.events.append([(event.kind, event.details) for event in events])
    counts = iter(mount.met())
    ended.met = [sum(next(counts) for _ in move.misbehaviours) for move in moves]
    ended.opened = open_below(mount.at)
    return ended


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
