"""The story of one file: look at the source, go on from what is proven, pump, verify, place.

What is moved where is a ``TransferSpec``. This knows nothing of jobs or of the database, and leaves in the meter how
far it came and where the next attempt may begin. Whatever happens, the target is seen whole or not at all.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import replace

from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import Content, same_content
from datamover.engine.transfer.digest import Digest
from datamover.engine.transfer.leftovers import sweep
from datamover.engine.transfer.memory_sink import MemorySink
from datamover.engine.transfer.parts import VerifiedPrefix, part_name, verify_prefix
from datamover.engine.transfer.pipe import Pipe
from datamover.engine.transfer.placement import place, read_back
from datamover.engine.transfer.spec import TransferResult, TransferSpec, TransferTools
from datamover.errors import (
    ChecksumMismatch,
    ConnectionLost,
    DataMoverError,
    DestinationExists,
    DestinationInvalid,
    NoSpace,
    SizeMismatch,
)
from datamover.jobs.values import Checkpoint, Naming, Overwrite
from datamover.protocols.base import Ability, Inspection, Lack, Sink, Source
from datamover.web.amounts import movable

SMALL = 256 * 1024
"""Bytes of a file that is held whole, to be written and placed by one call; there is nothing to resume in it."""
AT_ONCE = (Overwrite.NEVER, Overwrite.ALWAYS)
"""What asks for no look at the target before there is something to be put there."""
ROOM_LOOKED_FOR = 64 * 2**20
"""Bytes from which on it is worth asking the destination whether there is room."""


async def move(order: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> TransferResult:
    """Move one file; completes when it is in place and durable. Raises, and is cancelled, as ``bring`` is."""
    story = _Transfer(order, lease, meter, tools)
    try:
        brought = await story.run(to_the_end=True)
    finally:
        await story.close()
    if brought.part is None or brought.placed:
        return brought
    lease.commit()
    return await _placed(order, meter, tools, brought)


async def fetch(order: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> TransferResult:
    """Move one file to where nobody but this node sees it: unlike ``move`` it can be stopped to the last."""
    return await _placed(order, meter, tools, await bring(order, lease, meter, tools))


async def _placed(order: TransferSpec, meter: Meter, tools: TransferTools, brought: TransferResult) -> TransferResult:
    if brought.part is None:
        return brought
    content = Content(brought.size, brought.digests)
    if brought.doubtful:
        order = replace(order, read_back=True)
    lacks = await place(order, meter, tools, brought.part, brought.target, content)
    return replace(brought, placed=True, without=(*brought.without, *lacks))


async def bring(order: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> TransferResult:
    """Bring one file to its destination, as a part file; completes when that is whole, verified and durable.

    Raises errors of the family, Parked among them. Cancelling stops at once. Either leaves the part file, and in the
    meter's checkpoint where the next attempt may begin; with none, or without another attempt, ``clear`` is due.
    """
    story = _Transfer(order, lease, meter, tools)
    try:
        return await story.run()
    finally:
        await story.close()


class _Transfer:
    def __init__(self, order: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> None:
        self._order = order
        self._lease = lease
        self._meter = meter
        self._tools = tools
        self._source: Source | None = None
        self._sink: Sink | None = None
        self._without: tuple[Lack, ...] = ()
        self._doubtful = False

    async def run(self, *, to_the_end: bool = False) -> TransferResult:
        """Bring the file; ``to_the_end`` lets a small one be placed by the call that writes it."""
        kept = await self._proven()
        source = await self._open(kept)
        target = await self._target(source.inspection)
        if to_the_end and kept is None and self._fits(source):
            moved = await self._move_whole(source, target)
            if moved is not None:
                return moved
            source = await self._open(kept)  # Something has the name: it was read to the end in vain.
        there = await self._already_there(target, source.inspection)
        if there is not None:
            # It may be there by an attempt that died before it had removed its part file.
            await self._sweep(target)
            return self._brought(target, None, source.inspection, there)
        if self._source is None:  # It was read to the end to be compared.
            source = await self._open(kept)
        if not source.offset:
            kept = None
        if self._order.sent:
            self._meter.resume(source.offset, resent=max(0, self._order.sent - source.offset))
        part = self._part(target, source.inspection, kept)
        await self._sweep(target, keep=part)
        await self._check_room(source)
        digest, size = await self._pump(part, source, kept)
        content = await self._verify(digest, size, source.inspection)
        if (self._order.read_back or self._doubtful) and not to_the_end:
            # Of a group's files all are verified before the first has its name.
            await read_back(self._order, self._meter, self._tools, part, content)
        return self._brought(target, part, source.inspection, content)

    async def close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.close()
        sink, self._sink = self._sink, None
        if sink is not None:
            await sink.close()

    # The steps ------------------------------------------------------------------------------------------------

    async def _proven(self) -> VerifiedPrefix | None:
        if self._order.checkpoint is None or Ability.RESUME in self._order.place.lacks:
            return None
        self._meter.stage = "reading back what had arrived"
        kept = await verify_prefix(self._order.place, self._order.checkpoint, self._new_digest())
        self._meter.checkpoint = kept.checkpoint if kept else None
        return kept

    async def _open(self, kept: VerifiedPrefix | None) -> Source:
        self._meter.stage = "connecting"
        offset, identity = (kept.checkpoint.offset, kept.checkpoint.identity) if kept else (0, None)
        self._source = source = await self._order.origin.open(offset, identity)
        size, expected = movable(source.inspection.size, self._order.source), self._order.size
        self._meter.size = size
        if expected is not None and size is not None and size != expected:
            raise SizeMismatch(f"{self._order.source} is {size} bytes, expected {expected}")
        return source

    async def _target(self, inspection: Inspection) -> str:
        order = self._order
        if not await self._into(order):
            return order.path
        name = order.name or inspection.name
        if not name:
            raise DestinationInvalid(
                f"{order.source} tells no file name: give a path that ends in one, instead of a directory"
            )
        target = posixpath.join(order.path.rstrip("/"), name)
        await order.name_target(target)
        return target

    async def _into(self, order: TransferSpec) -> bool:
        if order.naming is Naming.EXACT:
            return False
        if order.naming is Naming.INTO or not order.path.strip("/"):
            return True
        found = await order.place.inspect(order.path)
        if found is not None and found.directory:
            return True
        await order.name_target(order.path)
        return False

    async def _already_there(self, target: str, inspection: Inspection) -> Content | None:
        order = self._order
        if order.overwrite is Overwrite.ALWAYS:
            return None
        found = await order.place.inspect(target)
        if found is None:
            return None
        if found.directory:
            raise DestinationInvalid(f"{target!r} is a directory there: name a file, or end the path in '/'")
        self._meter.stage = "comparing with what is there"
        await self.close()
        there = await same_content(order, target, found, inspection, self._new_digest)
        if there is None and order.overwrite is Overwrite.NEVER:
            raise DestinationExists(
                f"{target!r} exists with other content: remove it, or ask with overwrite 'if-different' or 'always'"
            )
        return there

    def _part(self, target: str, inspection: Inspection, kept: VerifiedPrefix | None) -> str:
        if kept is not None:
            self._meter.part = kept.checkpoint.part
            return kept.checkpoint.part
        self._meter.checkpoint = None
        self._meter.part = part_name(
            target,
            installation=self._tools.installation,
            transfer=self._order.transfer,
            source=self._order.source,
            identity=inspection.identity,
            lease=self._lease.leader.lease,
        )
        return self._meter.part

    async def _sweep(self, target: str, keep: str | None = None) -> None:
        """Remove the part files of earlier attempts that this one does not go on from."""
        if self._lease.leader.lease > 1:
            await sweep(self._order, self._lease, self._tools, posixpath.dirname(target), keep=keep)

    async def _check_room(self, source: Source) -> None:
        needed = (source.inspection.size or 0) - source.offset
        if needed < ROOM_LOOKED_FOR:
            return
        free = await self._order.place.free()
        if free is not None and free < needed:
            raise NoSpace(f"{needed} bytes are needed at the destination and {free} are free: make room there")

    def _fits(self, source: Source) -> bool:
        """Tell whether a file is to be written and placed at once: small, and with no need to look at its target."""
        size, order = source.inspection.size, self._order
        return size is not None and size <= SMALL and order.overwrite in AT_ONCE and not order.read_back

    async def _move_whole(self, source: Source, target: str) -> TransferResult | None:
        """Move a small file, verified in memory; None where something has its name and none is to be replaced."""
        part = self._part(target, source.inspection, None)
        await self._sweep(target, keep=part)
        self._sink = held = MemorySink()
        digest, size = await self._pump_into(held, part, source, None)
        digests = await self._verified(digest, size, source.inspection)
        self._meter.stage = "placing"
        self._lease.check()
        try:
            lacks = await self._order.place.put(
                part,
                target,
                held.content,
                modified=source.inspection.modified,
                replace=self._order.overwrite is Overwrite.ALWAYS,
                commit=self._lease.commit,
            )
        except DestinationExists:
            await self.close()
            return None
        self._without = (*self._without, *lacks)
        return self._brought(target, part, source.inspection, Content(size, digests), placed=True)

    async def _pump(self, part: str, source: Source, kept: VerifiedPrefix | None) -> tuple[Digest, int]:
        self._lease.check()
        self._sink = sink = await self._order.place.write(part, offset=source.offset)
        return await self._pump_into(sink, part, source, kept)

    async def _pump_into(
        self, sink: Sink, part: str, source: Source, kept: VerifiedPrefix | None
    ) -> tuple[Digest, int]:
        digest = kept.digest if kept else self._new_digest(source.inspection)
        self._meter.begin(source.offset)
        self._meter.stage = "moving"
        identity = source.inspection.identity

        def keep(offset: int, sha256: str) -> None:
            if identity is not None:
                self._meter.keep(Checkpoint(part, identity, offset, sha256))

        pipe = Pipe(
            source=source,
            sink=sink,
            digest=digest,
            meter=self._meter,
            lease=self._lease,
            throttle=self._order.throttle,
            keep=keep if identity is not None and self._resumable and not isinstance(sink, MemorySink) else None,
            clock=self._tools.clock,
            settings=self._tools.settings,
        )
        try:
            return digest, await pipe.pump()
        except DataMoverError as error:
            if error.retryable and not error.bounded:
                await pipe.rescue()
            raise

    @property
    def _resumable(self) -> bool:
        return self._order.resumable and Ability.RESUME not in self._order.place.lacks

    async def _verify(self, digest: Digest, size: int, inspection: Inspection) -> Content:
        self._meter.stage = "verifying"
        if self._sink is None:
            raise ConnectionLost("the destination was let go of before everything was written")
        digests = await self._verified(digest, size, inspection)
        held = await self._sink.finish(modified=inspection.modified)
        if held != size:
            raise SizeMismatch(f"the destination holds {held} bytes of {self._order.source}, sent were {size}")
        self._without = (*self._without, *self._sink.without)
        self._doubtful = self._sink.doubtful
        return Content(size, digests)

    async def _verified(self, digest: Digest, size: int, inspection: Inspection) -> dict[str, str]:
        """Return the digests of what came, which is what was expected; raises SizeMismatch and ChecksumMismatch."""
        for told, expected in (("the source said", inspection.size), ("the request said", self._order.size)):
            if expected is not None and size != expected:
                raise SizeMismatch(f"{self._order.source}: {size} bytes came, {told} {expected}")
        digests = await digest.hexdigests()
        asked = self._order.checksum
        self._compare("the request", digests, {asked.algorithm: asked.hexdigest} if asked else {})
        self._compare("the source", digests, inspection.digests)
        return digests

    def _compare(self, whose: str, digests: dict[str, str], expected: Mapping[str, str]) -> None:
        for algorithm, value in expected.items():
            if algorithm in digests and digests[algorithm] != value:
                raise ChecksumMismatch(
                    f"{self._order.source}: {algorithm} is {digests[algorithm]}, {whose} expected {value}"
                )

    def _new_digest(self, inspection: Inspection | None = None) -> Digest:
        expected = self._order.checksum
        algorithms = self._order.algorithms | ({expected.algorithm} if expected else set())
        return self._tools.digest(algorithms | set(inspection.digests if inspection else ()))

    def _brought(
        self, target: str, part: str | None, inspection: Inspection, content: Content, *, placed: bool = False
    ) -> TransferResult:
        self._meter.begin(content.size)
        self._meter.size = content.size
        return TransferResult(
            name=inspection.name,
            target=target,
            part=part,
            size=content.size,
            digests=content.digests,
            modified=inspection.modified,
            placed=placed,
            without=(*self._without, *inspection.lacks),
            doubtful=self._doubtful,
        )
