"""An attempt at a placement group: stage its files, make datasets and archives, upload, and place all together.

The staged files are on this node's own disk; a node that takes over stages again, from what the datasets stored in the
database. All files are uploaded and verified before the first is placed; from then on the group rolls forward, on
whichever node.
"""

import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.logger import Logger

from datamover.bounds.work import GROUP_FILES_AT_ONCE
from datamover.concurrency.gather import gather
from datamover.engine.attempt import AttemptContext, Done, remarks_of, without
from datamover.engine.groups.archive import BAGIT, ZIP, ArchiveMember, Stopped, bagit_name, make
from datamover.engine.groups.bench import StagingBench
from datamover.engine.groups.placements import commit, placement_of, remembered, upload_of
from datamover.engine.groups.staging import Staging, StagingDirectory
from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.room.reservation import RoomAwaited, RoomReservation
from datamover.engine.transfer.comparison import read_through
from datamover.engine.transfer.leftovers import abort, clear
from datamover.engine.transfer.spec import TransferSpec
from datamover.engine.transfer.transfer import fetch, is_there, upload_file
from datamover.errors import DataMoverError, Scope, ServerError, UnsupportedScheme
from datamover.jobs.queue.room import blocks
from datamover.jobs.values import Checkpoint, DatasetSource, Naming, Overwrite, Transfer
from datamover.jobs.work import Group, Placement, Remark
from datamover.protocols.local.refusals import DiskRefusals
from datamover.text.quoting import short_source
from datamover.web.amounts import movable

log = Logger()

ARCHIVE = "archive.zip"


@dataclass(frozen=True, slots=True)
class Staged:
    """A file in the staging directory."""

    transfer: Transfer
    path: str
    """Relative to the attempt's directory."""
    name: str
    size: int
    digests: Mapping[str, str]
    modified: float | None


@dataclass(frozen=True, slots=True)
class Outward:
    """A transfer from the staging directory to the destination."""

    transfer: Transfer
    spec: TransferSpec
    meter: Meter
    own: bool
    """Whether size and digest are those of the transfer's own file; False for an archive."""


@dataclass(slots=True)
class GroupAttempt:
    """One attempt at one group."""

    group: Group
    lease: Lease
    context: AttemptContext
    staging: Staging
    meters: Sequence[Meter] = field(init=False)
    placing: bool = False
    """Whether the placing has begun."""
    checkpoint: Checkpoint | None = None
    """Always None: each attempt stages again."""
    _stage: StagingDirectory = field(init=False)
    _meters: dict[int, Meter] = field(init=False)
    _outward: list[Outward] = field(init=False, default_factory=list)
    _remarks: list[Remark] = field(init=False, default_factory=list)
    _memory: dict[str, Any] = field(init=False)
    _room: RoomReservation | None = field(init=False)
    """The room of all its files at the destination."""

    def __post_init__(self) -> None:
        leader = self.lease.leader
        self._stage = self.staging.stage(f"{leader.id}-{leader.lease}")
        self._meters = {
            transfer.id: Meter(transfer.id, leader.lease, stage="waiting to be staged", staging=True)
            for transfer in self.group.transfers
        }
        self.meters = tuple(self._meters.values())
        self._memory = dict(leader.memory)
        self._room = self.context.room(leader, counted=False)

    async def run(self) -> Done:
        leader = self.lease.leader
        if leader.placing:
            placements = [one for one in map(remembered, self.group.transfers) if one is not None]
        else:
            placements = await self._upload_all(await self._staged())
            await self._record_figures()
        self.lease.commit()
        if not leader.placing and not await self.context.queue.placing(leader, placements):
            raise Parked("the lease was lost before the files could be placed; whoever holds it goes on")
        self.placing = True
        for placement in sorted(placements, key=lambda one: one.transfer.index):
            meter = self._meters[placement.transfer.id]
            lacks = await commit(self.context, self.lease, meter, placement, self._stage.origin("none"))
            self._remarks += without(placement.target, lacks)
        return self._done(placements)

    async def clear(self) -> bool:
        leader = self.lease.leader
        moved = (leader,) if leader.archive else self.group.transfers
        outwards = self._outward or [self._found_outward(one) for one in moved]
        cleaned = [await clear(one.spec, self.lease, one.meter, self.context.tools) for one in outwards]
        for one in map(remembered, self.group.transfers) if leader.placing else ():
            if one is not None and one.checkpoint is not None:
                upload = upload_of(self.context, one.transfer, one.target, one.checkpoint)
                cleaned.append(await abort(upload, self.lease, one.target))
        return all(cleaned)

    async def abandon(self) -> None:
        for url, facts in self._memory.items():
            try:
                dataset = self.context.dataset(url)
            except UnsupportedScheme as error:
                log.warn("job {job}: a request is not cancelled: {error}", job=self.lease.leader.job, error=error.full)
            else:
                await dataset.abandon(facts)

    async def close(self) -> None:
        await self._stage.close()

    # Staging --------------------------------------------------------------------------------------------------

    async def _staged(self) -> list[Staged]:
        await self._reserve()
        calls: list[Callable[[], Coroutine[Any, Any, list[Staged]]]] = []
        datasets: dict[str, list[Transfer]] = {}
        for transfer in self.group.transfers:
            if isinstance(transfer.source, DatasetSource):
                datasets.setdefault(transfer.source.url, []).append(transfer)
            else:
                calls.append(partial(self._fetch, transfer))
        calls += [partial(self._make, url, transfers) for url, transfers in datasets.items()]
        staged = [one for some in await gather(calls, GROUP_FILES_AT_ONCE) for one in some]
        return sorted(staged, key=lambda one: one.transfer.index)

    async def _reserve(self) -> None:
        """Reserve disk space for the files to be staged, as far as their sizes are known, and for their archive."""
        leader = self.lease.leader
        plain = [one for one in self.group.transfers if not isinstance(one.source, DatasetSource)]
        sizes = await gather([partial(self._size, transfer) for transfer in plain], GROUP_FILES_AT_ONCE)
        wanted = max(leader.room_wanted or 0, sum(sizes) if leader.archive else 0)
        if self._room is not None and not await self._room.look(wanted or None) and not await self._may_be_there():
            raise RoomAwaited(wanted)
        await self._stage.reserve(sum(sizes) * (2 if leader.archive else 1))

    async def _may_be_there(self) -> bool:
        """Tell whether there is something at every target that may stay: then the group may need no room."""
        leader = self.lease.leader
        place = self.context.registry.get(leader.destination).at(Scope.DESTINATION)
        for one in (leader,) if leader.archive else self.group.transfers:
            target = one.target or (one.path if one.naming is Naming.EXACT else None)
            if one.overwrite is Overwrite.ALWAYS or target is None or await place.inspect(target) is None:
                return False
        return True

    async def _size(self, transfer: Transfer) -> int:
        if transfer.size is not None:
            return transfer.size
        try:
            found = await self.context.origin(transfer.source, transfer.owner).inspect()
            return movable(found.size, lambda: short_source(transfer.source.shown)) or 0
        except DataMoverError as error:
            raise _of_file(transfer, error) from error

    async def _fetch(self, transfer: Transfer) -> list[Staged]:
        """Fetch one file into the staging directory."""
        path = str(transfer.index)
        meter = self._meters[transfer.id]
        try:
            spec = self._spec(
                transfer,
                place=self._stage.place,
                path=path,
                naming=Naming.EXACT,
                overwrite=Overwrite.ALWAYS,
                read_back=False,
                throttle=None,
                algorithms=frozenset({"md5"}),
            )
            fetched = await fetch(spec, self.lease, meter, self.context.tools)
        except DataMoverError as error:
            raise _of_file(transfer, error) from error
        if not fetched.name:
            raise ServerError(f"{spec.source} tells no file name, and the archive needs one", scope=Scope.SOURCE)
        meter.digest, meter.stage = fetched.digest, "staged"
        return [Staged(transfer, path, fetched.name, fetched.size, fetched.digests, fetched.modified)]

    async def _make(self, url: str, transfers: Sequence[Transfer]) -> list[Staged]:
        """Make the files of a dataset in the staging directory."""
        dataset = self.context.dataset(url)
        subject = dataset.subject(url)
        name = f"dataset-{transfers[0].index}"
        meter = self._meters[transfers[0].id]
        await self._stage.make(name)
        bench = StagingBench(
            context=self.context,
            stage=self._stage,
            name=name,
            lease=self.lease,
            transfers=transfers,
            meter=meter,
            memory=self._memory.get(url, {}),
            remember=partial(self._remember, url),
        )
        made = await dataset.make(subject, bench)
        self._remarks.append(Remark("made", {"dataset": url, **made.details}))
        staged = []
        for transfer, path, file_name in zip(transfers, made.paths, dataset.names(subject), strict=True):
            relative = str(path.relative_to(self._stage.directory))
            digest = self.context.tools.digest({"md5"})
            content = await read_through(self._stage.origin(relative), digest)
            self._meters[transfer.id].begin(0)
            self._meters[transfer.id].size = content.size
            self._meters[transfer.id].stage = "staged"
            staged.append(Staged(transfer, relative, file_name, content.size, content.digests, None))
        return staged

    async def _remember(self, url: str, facts: Mapping[str, Any]) -> None:
        self._memory[url] = facts
        if not await self.context.queue.remember(self.lease.leader, self._memory):
            raise Parked("the lease was lost while a dataset was made; whoever holds it goes on")

    # Moving ---------------------------------------------------------------------------------------------------

    async def _upload_all(self, staged: Sequence[Staged]) -> list[Placement]:
        leader = self.lease.leader
        if leader.archive:
            await self._archive(staged)
            self._outward = [self._archive_outward()]
        else:
            self._outward = [self._file_outward(one) for one in staged]
        if self._room is not None:
            await self._take_room(self._room)
            self._remarks += without(leader.path, self._room.lacks)
        await self.context.queue.moving(leader)
        self._meters[leader.id].stage = "moving"
        uploads = [partial(upload_file, one.spec, self.lease, one.meter, self.context.tools) for one in self._outward]
        results = await gather(uploads, GROUP_FILES_AT_ONCE)
        self._remarks += [remark for one in results for remark in remarks_of(one)]
        return [
            placement_of(outward.transfer, one, own=outward.own)
            for outward, one in zip(self._outward, results, strict=True)
        ]

    async def _take_room(self, room: RoomReservation) -> None:
        """Reserve room for all files; where it is short, only for those that are not there already."""
        wanted = [blocks((await outward.spec.origin.inspect()).size or 0) for outward in self._outward]
        if not await room.look(sum(wanted)):
            for number, outward in enumerate(self._outward):
                if await is_there(outward.spec, self.lease, outward.meter, self.context.tools):
                    wanted[number] = 0
        await room.begin(0, sum(wanted))

    async def _record_figures(self) -> None:
        """Write every file's figures now, since an attempt that rolls forward does not stage it and cannot."""
        for meter in self.meters:
            meter.repeat()
        await self.context.queue.progress([each for meter in self.meters if (each := meter.unwritten()) is not None])

    async def _archive(self, staged: Sequence[Staged]) -> None:
        """Make one archive of the staged files."""
        self._meters[self.lease.leader.id].stage = "making the archive"
        members = [
            ArchiveMember(self._stage.directory / one.path, one.name, one.digests["md5"], one.modified)
            for one in staged
        ]
        target, layout, stop = self._stage.directory / ARCHIVE, self.lease.leader.archive or ZIP, threading.Event()
        try:
            # This waits for the thread to end, so that the directory is not removed while it writes.
            archive, owner = self.context.tools.pools.archives.finish_shared, self.lease.leader.owner
            await archive(owner, stop.set, make, target, members, layout, stop)
        except Stopped:
            raise ServerError("the making of the archive was stopped", scope=Scope.SERVICE) from None
        except OSError as error:
            raise DiskRefusals("staging", Scope.SERVICE).of(error, ARCHIVE) from error

    def _archive_outward(self) -> Outward:
        leader = self.lease.leader
        spec = self._spec(
            leader,
            origin=self._stage.origin(ARCHIVE),
            source=f"the archive of job {leader.job}",
            name=bagit_name(leader.job) if leader.archive == BAGIT else None,
            checksum=None,
            size=None,
        )
        return Outward(leader, spec, Meter(leader.id, leader.lease), own=False)

    def _file_outward(self, staged: Staged) -> Outward:
        source = f"{short_source(staged.transfer.source.shown)} {staged.name}"
        spec = self._spec(staged.transfer, origin=self._stage.origin(staged.path), source=source)
        return Outward(staged.transfer, spec, self._meters[staged.transfer.id], own=True)

    def _found_outward(self, transfer: Transfer) -> Outward:
        """Return the upload that an earlier attempt may have begun for a file."""
        spec = self._spec(transfer, origin=self._stage.origin("none"))
        return Outward(transfer, spec, Meter(transfer.id, self.lease.leader.lease), own=True)

    def _spec(self, transfer: Transfer, **changes: Any) -> TransferSpec:
        """Return the TransferSpec of a transfer that does not resume, since each attempt stages again."""
        return self.context.spec(transfer, self.lease, checkpoint=None, sent=0, resumable=False, **changes)

    def _done(self, placements: Sequence[Placement]) -> Done:
        first = next((one for one in placements if one.transfer is self.lease.leader), None)
        if first is None or first.own:
            remarks = tuple(self._remarks)
            return Done(first.size, first.digest, remarks, first.target) if first else Done(None, None, remarks)
        details = {"path": first.target, "size": first.size, "digest": first.digest}
        meter = self._meters[first.transfer.id]
        return Done(meter.size, meter.digest, (*self._remarks, Remark("archived", details)), first.target)


def _of_file(transfer: Transfer, error: DataMoverError) -> DataMoverError:
    return error.below(f"files[{transfer.index}]")
