"""Many files moved at once to a file server that misbehaves, each place of it in a way of its own."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.jobs.values import Event, NewJob
from tests.engine.mounts import AT_ONCE, MODIFIED, PATIENCE, WRITING, Way
from tests.engine.outcome import Outcome, look
from tests.engine.rig import Rig, file, parts, place, random_bytes
from tests.servers.wayward.misbehaviour import Misbehaviour
from tests.servers.wayward.server import Wayward

ENDS = {"completed", "partial", "failed", "cancelled"}
"""The kinds of the event that tells a job's end."""

OPENSSH = "OpenSSH_9.2p1"
"""What a server calls itself that is believed to bear files being written by several handles."""


@dataclass(frozen=True, slots=True)
class Server:
    """One place of a server, as a destination sees it: what is learnt there is learnt of no other."""

    misbehaviours: tuple[Misbehaviour, ...] = ()
    without: tuple[str, ...] = ()
    """Extensions that it does not announce."""
    wide: bool = False
    """It calls itself OpenSSH."""
    read_back: bool = False

    def __str__(self) -> str:
        wrong = [str(each) for each in self.misbehaviours]
        wrong += [f"no {name.partition('@')[0]}" for name in self.without]
        return f"a server{', called OpenSSH,' if self.wide else ''} where {'; '.join(wrong) or 'all is well'}"


@dataclass(frozen=True, slots=True)
class Move:
    """One file to be moved."""

    server: Server
    way: Way
    size: int
    kind: str = ""
    """What is expected of it."""
    attempts: int = 2
    alone: bool = False
    """To a destination of its own: what befalls its connection befalls no other file."""

    def __str__(self) -> str:
        return f"{self.size} bytes {self.way.value}, to {self.server}"


@dataclass(slots=True)
class Moves:
    """What was moved, and how it ended."""

    moves: Sequence[Move]
    directories: Sequence[str]
    """Where each went, below the server's root."""
    outcomes: list[Outcome] = field(default_factory=list)
    """In the order of the moves."""
    events: list[list[tuple[str, Mapping[str, Any]]]] = field(default_factory=list)
    """Kind and details of what was told of each."""
    statuses: list[os.stat_result | None] = field(default_factory=list)
    """Of the target, past the server."""
    met: Counter[Server] = field(default_factory=Counter)
    """How often a server's misbehaviours came about."""
    opened: list[str] = field(default_factory=list)
    """What is open on the server after all of them."""

    def __iter__(self) -> Iterator[tuple[Move, Outcome]]:
        return zip(self.moves, self.outcomes, strict=True)

    def of(self, kind: str) -> list[Outcome]:
        return [outcome for move, outcome in self if move.kind == kind]


class ServerRig:
    """An engine that moves files from one directory to as many places of a server as it was opened with."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self.directory = directory
        self.sources = directory / "sources"
        self.rig = Rig(reactor, directory)
        self._content: dict[int, bytes] = {}
        self._waywards: dict[bool, Wayward] = {}
        self._places: dict[Kind, list[_At]] = {}
        """Those that were not used."""
        self._numbers = count()

    async def open(self, stock: Mapping["Kind", int], **transfers: Any) -> "ServerRig":
        """Have so many places of each kind; none is used by two calls of ``run``."""
        self.sources.mkdir()
        tables: dict[str, dict[str, Any]] = {"sources": {"url": self.sources.as_uri()}}
        for wide in {kind.wide for kind in stock}:
            version = OPENSSH if wide else "Wayward"
            self._waywards[wide] = Wayward(self.directory / version, version=version)
            self._waywards[wide].start()
        for kind, number in stock.items():
            wayward = self._waywards[kind.wide]
            self._places[kind] = [
                _At(wayward, wayward.account(), f"place-{next(self._numbers)}") for _ in range(number)
            ]
            tables |= {f"{at}": at.table(kind) for at in self._places[kind]}
        await self.rig.open(
            {name: {**table, "max_active": AT_ONCE} for name, table in tables.items()},
            transfers=transfers,
        )
        await self.rig.engine(max_active=AT_ONCE)
        return self

    async def close(self) -> None:
        # Connections that are broken need not be taken leave of, one by one.
        for wayward in self._waywards.values():
            wayward.stop()
        await self.rig.close()

    async def run(self, moves: Sequence[Move]) -> Moves:
        """Move all at once: all to the same server to the same place, but for those that are to be alone."""
        found: dict[Server, _At] = {}
        places = []
        for move in moves:
            if move.alone or move.server not in found:
                found[move.server] = self._places[kind_of(move)].pop()
                found[move.server].announce(move.server)
            places.append(found[move.server])
        directories = [f"{next(self._numbers)}" for _ in moves]
        for move, at, name in zip(moves, places, directories, strict=True):
            self._prepare(move, at.root / name)
        told = self._misbehave(moves, places, directories)
        jobs = await self.rig.store.submit(
            [
                NewJob(
                    files=(file(place("sources", str(move.size)), f"{at}", f"{directory}/{move.way.path}"),),
                    owner="tester",
                    overwrite=move.way.overwrite,
                    max_attempts=move.attempts,
                )
                for move, at, directory in zip(moves, places, directories, strict=True)
            ]
        )
        ended = Moves(moves, [f"{at}/{directory}" for at, directory in zip(places, directories, strict=True)])
        for move, at, name, job in zip(moves, places, directories, jobs, strict=True):
            await self._end(ended, move, at.root / name, job.id)
        for wayward, servers in told:
            for server, times in zip(servers, wayward.met(), strict=True):
                ended.met[server] += times
            ended.opened += wayward.open_files()
        return ended

    def content(self, size: int) -> bytes:
        """Return what the source of so many bytes holds; it is made where it is not there yet."""
        if size not in self._content:
            self._content[size] = random_bytes(size)
            (self.sources / str(size)).write_bytes(self._content[size])
            os.utime(self.sources / str(size), (MODIFIED, MODIFIED))
        return self._content[size]

    def _prepare(self, move: Move, directory: Path) -> None:
        self.content(move.size)
        directory.mkdir(parents=True)
        if (before := move.way.before(move.size)) is not None:
            (directory / "file").write_bytes(before)

    def _misbehave(
        self, moves: Sequence[Move], places: Sequence["_At"], directories: Sequence[str]
    ) -> list[tuple[Wayward, list[Server]]]:
        """Tell the servers; return whose misbehaviours they were told, in their order."""
        below: dict[Wayward, list[tuple[Server, Misbehaviour]]] = {wayward: [] for wayward in self._waywards.values()}
        done: set[str] = set()
        for move, at, directory in zip(moves, places, directories, strict=True):
            for each in move.server.misbehaviours:
                if each.nth is not None:  # Of each file's requests.
                    below[at.wayward].append((move.server, replace(each, below=f"{at}/{directory}")))
                elif f"{at}" not in done:
                    below[at.wayward].append((move.server, replace(each, user=at.user)))
            done.add(f"{at}")
        for wayward, told in below.items():
            wayward.misbehave(*(each for _, each in told))
        return [(wayward, [server for server, _ in told]) for wayward, told in below.items()]

    async def _end(self, ended: Moves, move: Move, directory: Path, job: int) -> None:
        await self.rig.store.wait(job, PATIENCE)
        (record,) = await self.rig.store.files(job)
        target = directory / move.way.path
        there = look(target, self.content(move.size), move.way.before(move.size))
        ended.outcomes.append(Outcome.of(str(move), record, there, parts(directory)))
        ended.statuses.append(target.stat() if target.exists() else None)
        ended.events.append([(event.kind, event.details) for event in await self._history(job)])

    async def _history(self, job: int) -> list[Event]:
        """Return the events of a job that has ended; each is readable once no writer runs that began before it."""
        until = time.monotonic() + PATIENCE
        while True:
            events = await self.rig.store.events(job=job, limit=1000)
            if any(event.file is None and event.kind in ENDS for event in events):
                return events
            assert time.monotonic() < until, f"the end of job {job} is not told"
            await deferLater(reactor, 0.05)


@dataclass(frozen=True, slots=True)
class _At:
    """A directory of a server, its user, and the destination that they are; ``str`` is the directory's name and its."""

    wayward: Wayward
    user: str
    name: str

    @property
    def root(self) -> Path:
        return self.wayward.root / self.name

    def table(self, kind: "Kind") -> dict[str, Any]:
        """Return the destination's configuration."""
        return {
            "url": f"{self.wayward.url_of(self.user)}/{self}",
            "known_hosts_file": str(self.wayward.known_hosts),
            "private_key_file": str(self.wayward.private_key),
            "verify": "read-back" if kind.read_back else "size",
        }

    def announce(self, server: Server) -> None:
        """Have the server announce what it does."""
        self.wayward.announce(self.user, without=server.without)

    def __str__(self) -> str:
        return self.name


class Kind(NamedTuple):
    """What a place has to be before it is known what it does."""

    wide: bool = False
    read_back: bool = False


def kind_of(move: Move) -> Kind:
    return Kind(move.server.wide, move.server.read_back)


def needed(moves: Sequence[Move]) -> Counter[Kind]:
    """Return how many places of each kind one run of them takes."""
    alone = [kind_of(move) for move in moves if move.alone]
    shared = {move.server: kind_of(move) for move in moves if not move.alone}
    return Counter([*alone, *shared.values()])


def over(servers: Iterable[Server], sizes: Sequence[int], ways: Sequence[Way] = WRITING, **more: Any) -> list[Move]:
    """Return moves of every size, in every way, to every server."""
    return [Move(server, way, size, **more) for server in servers for way in ways for size in sizes]


def each_way_once(servers: Iterable[Server], size: int, **more: Any) -> list[Move]:
    """Return one move to every server, in one way after the other."""
    return [Move(server, WRITING[number % len(WRITING)], size, **more) for number, server in enumerate(servers)]
