"""One transfer: inspect the source, resume from a verified prefix, stream, verify, place.

A ``TransferSpec`` says what to move. This module knows nothing of jobs or the database; the meter holds the progress
and the next attempt's checkpoint. Other programs see the target whole or not at all.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import HashedContent, same_content
from datamover.engine.transfer.digest import MAIN, Digest
from datamover.engine.transfer.keys import upload_key
from datamover.engine.transfer.leftovers import abandon, sweep
from datamover.engine.transfer.memory_sink import MemorySink
from datamover.engine.transfer.pipe import OnCheckpoint, Pipe, Sink
from datamover.engine.transfer.placement import place, read_back
from datamover.engine.transfer.prefix import VerifiedPrefix, saved_of, verify_prefix
from datamover.engine.transfer.room import look_for_room, take_room, took_room
from datamover.engine.transfer.spec import TransferResult, TransferSpec, TransferTools
from datamover.engine.transfer.verification import verified
from datamover.errors import DataMoverError, DestinationExists, DestinationInvalid, SizeMismatch
from datamover.jobs.values import Checkpoint, Naming, Overwrite
from datamover.protocols.base import Ability, Inspection, Lack, Source
from datamover.protocols.upload import Saved, Upload
from datamover.text.quantities import count
from datamover.web.amounts import movable

SMALL = 256 * 1024
"""Bytes up to which a file is held in memory and stored by one call; it is not resumed."""
AT_ONCE = (Overwrite.NEVER, Overwrite.ALWAYS)
"""The rules under which a file is stored without inspecting its target first."""


async def move(spec: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> TransferResult:
    """Move one file; completes when it is in place and durable. Errors and cancelling are as of ``upload_file``."""
    transfer = _Transfer(spec, lease, meter, tools)
    try:
        result = await transfer.run(place_small=True)
    finally:
        await transfer.close()
    if result.token is None:
        return result
    lease.commit()
    return await _placed(spec, meter, tools, result)


async def fetch(spec: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> TransferResult:
    """Move one file to a directory that only this node uses; unlike ``move``, it can be cancelled until its end."""
    return await _placed(spec, meter, tools, await upload_file(spec, lease, meter, tools))


async def _placed(spec: TransferSpec, meter: Meter, tools: TransferTools, result: TransferResult) -> TransferResult:
    if result.upload is None:
        return result
    content = HashedContent(result.size, result.digests)
    if result.doubtful:
        spec = replace(spec, read_back=True)
    lacks = await place(spec, meter, tools, result.upload, result.target, content, over=result.over)
    return replace(result, token=None, without=(*result.without, *lacks))


async def upload_file(spec: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> TransferResult:
    """Upload one file without placing it; completes when the upload is whole, verified and durable.

    Raises DataMoverErrors, such as Parked and RoomAwaited. Cancelling stops at once. Both leave the upload at the
    destination, and a checkpoint for the next attempt in the meter. Without a checkpoint or a next attempt, the caller
    calls ``clear``.
    """
    transfer = _Transfer(spec, lease, meter, tools)
    try:
        return await transfer.run()
    finally:
        await transfer.close()


async def is_there(spec: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> bool:
    """Tell whether the target holds the file already; raises DestinationExists where it may not be replaced."""
    transfer = _Transfer(spec, lease, meter, tools)
    try:
        found = (await transfer._open(None)).inspection
        return await transfer._already_there(await transfer._target(found), found) is not None
    finally:
        await transfer.close()


class _Transfer:
    def __init__(self, spec: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> None:
        self._spec = spec
        self._lease = lease
        self._meter = meter
        self._tools = tools
        self._source: Source | None = None
        self._upload: Upload | None = None
        self._over: str | None = None
        """The identity of the target, compared to be replaced."""

    async def run(self, *, place_small: bool = False) -> TransferResult:
        """Upload the file; with ``place_small`` a small one is stored and placed by one call."""
        await look_for_room(self._spec, self._lease.leader)
        prefix = await self._verified_prefix()
        source = await self._open(prefix)
        target = await self._target(source.inspection)
        if place_small and prefix is None and self._fits(source):
            result = await self._store(source, target)
            if result is not None:
                return result
            source = await self._open(prefix)  # The target exists: open the source again, to compare.
        there = await self._already_there(target, source.inspection)
        if there is not None:
            # An attempt that crashed may have placed it and left its upload behind.
            await self._sweep(target)
            return self._result(target, None, source.inspection, there)
        if prefix is not None and prefix.target != target:
            await self._abandon(prefix)
            prefix = None
        if self._source is None or (source.offset and prefix is None):
            await self.close()
            source = await self._open(prefix)  # It was closed for the comparison, or must be read from zero.
        if not source.offset:
            prefix = None
        if self._spec.sent:
            self._meter.resume(source.offset, resent=max(0, self._spec.sent - source.offset))
        upload = self._begin(target, source.inspection, prefix)
        await self._sweep(target, keep=upload.token)
        await take_room(self._spec, source)
        digest = prefix.digest if prefix else self._new_digest(source.inspection)
        size = await self._pump_into(upload, digest, source)
        content, saved = await self._finish(upload, digest, size, source.inspection)
        if (self._spec.read_back or upload.doubtful) and not place_small and upload.arrived is not None:
            # All files of a group are verified before the first is placed.
            await read_back(self._meter, self._tools, upload.arrived, target, content)
        return self._result(target, upload, source.inspection, content, token=saved.token, without=upload.without)

    async def close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.close()
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.close()

    # The steps ------------------------------------------------------------------------------------------------

    async def _verified_prefix(self) -> VerifiedPrefix | None:
        spec, checkpoint = self._spec, self._spec.checkpoint
        target = spec.path if spec.naming is Naming.EXACT else spec.target
        if checkpoint is None or target is None or Ability.RESUME in spec.place.lacks:
            return None
        self._meter.stage = "reading back what had arrived"
        digest = self._new_digest()
        upload = spec.place.resume(target, saved_of(checkpoint))
        is_verified = await verify_prefix(upload, checkpoint, spec.origin, digest)
        self._meter.checkpoint = checkpoint if is_verified else None
        return VerifiedPrefix(checkpoint, target, digest) if is_verified else None

    async def _open(self, prefix: VerifiedPrefix | None) -> Source:
        self._meter.stage = "connecting"
        offset, identity = (prefix.checkpoint.offset, prefix.checkpoint.identity) if prefix else (0, None)
        self._source = source = await self._spec.origin.open(offset, identity)
        size, expected = movable(source.inspection.size, lambda: self._spec.source), self._spec.size
        self._meter.size = size
        if expected is not None and size is not None and size != expected:
            raise SizeMismatch(f"{self._spec.source} is {count(size, 'byte')}, expected {expected}")
        return source

    async def _target(self, inspection: Inspection) -> str:
        spec = self._spec
        if not await self._into(spec):
            return spec.path
        name = spec.name or inspection.name
        if not name:
            raise DestinationInvalid(
                f"{spec.source} tells no file name: give a path that ends in one, instead of a directory"
            )
        target = posixpath.join(spec.path.rstrip("/"), name)
        await spec.name_target(target)
        return target

    async def _into(self, spec: TransferSpec) -> bool:
        if spec.naming is Naming.EXACT:
            return False
        if spec.naming is Naming.INTO or not spec.path.strip("/"):
            return True
        found = await spec.place.inspect(spec.path)
        if found is not None and found.directory:
            return True
        await spec.name_target(spec.path)
        return False

    async def _already_there(self, target: str, inspection: Inspection) -> HashedContent | None:
        spec = self._spec
        if spec.overwrite is Overwrite.ALWAYS:
            return None
        found = await spec.place.inspect(target)
        if spec.overwrite is Overwrite.IF_DIFFERENT:
            self._over = "" if found is None else found.identity
        if found is None:
            return None
        if found.directory:
            raise DestinationInvalid(f"{target!r} is a directory there: name a file, or end the path in '/'")
        self._meter.stage = "comparing with what is there"
        await self.close()
        there = await same_content(spec, target, found, inspection, self._new_digest)
        if there is None and spec.overwrite is Overwrite.NEVER:
            raise DestinationExists(
                f"{target!r} exists with other content: remove it, or ask with overwrite 'if-different' or 'always'"
            )
        return there

    def _begin(self, target: str, inspection: Inspection, prefix: VerifiedPrefix | None) -> Upload:
        spec, size, modified = self._spec, inspection.size, inspection.modified
        if prefix is not None:
            upload = spec.place.resume(target, saved_of(prefix.checkpoint), size=size, modified=modified)
        else:
            self._meter.checkpoint = None
            key = upload_key(
                installation=self._tools.installation,
                transfer=spec.transfer,
                source=spec.source,
                identity=inspection.identity,
                lease=self._lease.leader.lease,
            )
            upload = spec.place.begin(target, key, size=size, modified=modified, sha256=self._known(inspection))
        self._meter.upload = upload
        return upload

    def _known(self, inspection: Inspection) -> str | None:
        """Return the sha256 that the file must have, where the request or the source tells it."""
        checksum = self._spec.checksum
        own = checksum.hexdigest if checksum is not None and checksum.algorithm == MAIN else None
        return own or inspection.digests.get(MAIN)

    async def _abandon(self, prefix: VerifiedPrefix) -> None:
        """Remove an upload of another target: the source's file name has changed."""
        upload = self._spec.place.resume(prefix.target, saved_of(prefix.checkpoint))
        await abandon(upload, self._lease, prefix.target)

    async def _sweep(self, target: str, keep: str | None = None) -> None:
        """Remove the uploads of earlier attempts that this one does not resume."""
        if self._lease.leader.lease > 1:
            await sweep(self._spec, self._lease, self._tools, target, keep=keep)

    def _fits(self, source: Source) -> bool:
        """Tell whether a file is stored by one call: it is small, and its target need not be inspected first."""
        size, spec = source.inspection.size, self._spec
        return size is not None and size <= SMALL and spec.overwrite in AT_ONCE and not spec.read_back

    async def _store(self, source: Source, target: str) -> TransferResult | None:
        """Store a small file after verifying it in memory; return None if its target exists and may not be replaced."""
        upload = self._begin(target, source.inspection, None)
        await self._sweep(target, keep=upload.token)
        if not await took_room(self._spec, source, target):
            await self.close()
            return None
        sink, digest = MemorySink(), self._new_digest(source.inspection)
        size = await self._pump(sink, digest, source, None)
        digests = await verified(self._spec, digest, size, source.inspection)
        self._meter.stage = "placing"
        self._lease.check()
        try:
            stored = await upload.store(
                sink.content, replace=self._spec.overwrite is Overwrite.ALWAYS, commit=self._lease.commit
            )
        except DestinationExists:
            await self.close()
            return None
        return self._result(target, upload, source.inspection, HashedContent(size, digests), without=stored.without)

    async def _pump_into(self, upload: Upload, digest: Digest, source: Source) -> int:
        self._lease.check()
        self._upload = upload
        await upload.open()
        identity = source.inspection.identity
        if identity is None or not self._spec.resumable or Ability.RESUME in self._spec.place.lacks:
            return await self._pump(upload, digest, source, None)

        def on_checkpoint(saved: Saved, sha256: str) -> None:
            self._meter.keep(Checkpoint(saved.token, identity, saved.offset, sha256))

        return await self._pump(upload, digest, source, on_checkpoint)

    async def _pump(self, sink: Sink, digest: Digest, source: Source, on_checkpoint: OnCheckpoint | None) -> int:
        self._meter.begin(source.offset)
        self._meter.stage = "moving"
        pipe = Pipe(
            source=source,
            sink=sink,
            digest=digest,
            meter=self._meter,
            lease=self._lease,
            throttle=self._spec.throttle,
            room=self._spec.room if sink is self._upload else None,
            on_checkpoint=on_checkpoint,
            clock=self._tools.clock,
            settings=self._tools.settings,
        )
        try:
            return await pipe.pump()
        except DataMoverError as error:
            if error.retryable and not error.bounded:
                await pipe.rescue()
            raise

    async def _finish(
        self, upload: Upload, digest: Digest, size: int, inspection: Inspection
    ) -> tuple[HashedContent, Saved]:
        """Verify what was received, and have the destination make it durable."""
        self._meter.stage = "verifying"
        digests = await verified(self._spec, digest, size, inspection)
        saved = await upload.finish()
        if saved.offset != size:
            raise SizeMismatch(
                f"the destination holds {count(saved.offset, 'byte')} of {self._spec.source}, sent were {size}"
            )
        return HashedContent(size, digests), saved

    def _new_digest(self, inspection: Inspection | None = None) -> Digest:
        expected = self._spec.checksum
        published = set(inspection.digests) if inspection else set()
        if MAIN in published:
            published = {MAIN}  # It proves the most, and is computed anyhow.
        return self._tools.digest(self._spec.algorithms | ({expected.algorithm} if expected else set()) | published)

    def _result(
        self,
        target: str,
        upload: Upload | None,
        inspection: Inspection,
        content: HashedContent,
        *,
        token: str | None = None,
        without: Sequence[Lack] = (),
    ) -> TransferResult:
        self._meter.begin(content.size)
        self._meter.size = content.size
        return TransferResult(
            name=inspection.name,
            target=target,
            upload=upload,
            token=token,
            size=content.size,
            digests=content.digests,
            modified=inspection.modified,
            without=(*without, *inspection.lacks, *(self._spec.room.lacks if self._spec.room else ())),
            over=self._over,
            doubtful=upload is not None and upload.doubtful,
        )
