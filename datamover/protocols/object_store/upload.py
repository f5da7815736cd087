"""One object that is uploaded in parts, or by one PUT if it is small.

The token has the upload's id, the number of parts that were saved, and a digest over their sizes and ETags, with which
the service's list of parts is compared. An ETag stands for bytes whose digest the service has checked.
"""

import hashlib
import posixpath
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as changed

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from datamover.concurrency.buffer_budgets import Buffers
from datamover.concurrency.shielding import finish_despite_cancel
from datamover.errors import ChecksumMismatch, DataMoverError, DestinationExists, DestinationForbidden, ServerError
from datamover.protocols.again import pause_before
from datamover.protocols.base import Ability, Lack, Octets, Origin
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.object_store.gathered import Gathered
from datamover.protocols.object_store.metadata import ObjectMetadata
from datamover.protocols.object_store.parts import PartSender, may_end_early, part_size
from datamover.protocols.object_store.seam import FoundObject, Made, ObjectStore, Part
from datamover.protocols.object_store.token import Token, digest
from datamover.protocols.upload import Check, Prove, Saved, Stored, UploadKey, unchecked

IN_FLIGHT = Buffers(256 * 2**20, least=10 * 2**20, most=80 * 2**20)
"""Bytes of parts that are gathered or in flight, shared among all uploads of the process."""
COMPLETIONS = 3
"""Tries to complete an upload within one attempt; the next would have to read the source again."""

_NO_METADATA = Lack(Ability.SET_MODIFIED, "the service does not tell the metadata that it is given")


@dataclass(frozen=True, slots=True)
class Tools:
    """What all uploads of a destination share."""

    store: ObjectStore
    conditions: Conditions
    part_size: int
    """Bytes."""
    origin: Callable[[str], Origin]
    clock: IReactorTime


class MultipartUpload:
    """``protocols.upload.Upload`` of one object."""

    arrived = None
    doubtful = False
    watched = True
    without: Sequence[Lack] = ()

    def __init__(self, tools: Tools, target: str, token: Token, offset: int = 0, *, size: int | None = None) -> None:
        """``size`` is the file's size in bytes, if known."""
        self.offset = offset
        self._tools = tools
        self._store = tools.store
        self._target = target
        self._token = token
        self._expected = size
        self._gathered = Gathered()
        self._size = offset
        """Bytes that are in parts."""
        self._listed: list[Part] | None = None
        """The parts that were saved."""
        self._parts: PartSender | None = None
        self._made = Made()
        """What the answer to the commit said."""
        self._even: int | None = None
        """Bytes of each part but the last one, where all must be of one size."""
        self._leave: Callable[[], None] | None = None
        self._asked_at: float | None = None
        """When the service was asked to begin an upload, as long as no answer came; POSIX seconds."""

    @property
    def token(self) -> str | None:
        return str(self._token) if self._token.upload or self._asked_at is not None else None

    async def exists(self) -> bool:
        """Tell whether the service has the saved parts."""
        self._listed = await self._list()
        return self._listed is not None

    async def open(self) -> None:
        if self._leave is None:
            self._leave = IN_FLIGHT.join()
        if not self._token.upload:
            self._tools.conditions.check_visible(self._store, self._target)
            # Not cancelled: an upload that is begun after its transfer was abandoned would never be aborted.
            await finish_despite_cancel(Deferred.fromCoroutine(self._create()))
            self._listed = []
            await self._tools.conditions.tidy(self._store)
        elif self._listed is None and not await self.exists():
            raise self._store.refusals.gone(self._target)
        assert self._listed is not None
        at_once = max(1, IN_FLIGHT.size // self._part_size(0) - 1)
        self._parts = PartSender(
            self._store, self._target, self._token.upload, self._listed, at_once, self._tools.clock
        )

    async def write(self, data: Octets) -> None:
        self._gathered.add(data)
        limits = self._store.limits
        # The rest is large enough to be a part of its own when it is flushed, or the last one.
        rest = 1 if limits.even else limits.least
        while len(self._gathered) >= (size := self._part_size(len(self._sending))) + rest:
            await self._send(self._gathered.take(size))

    async def flush(self) -> Saved:
        """Send the gathered bytes, if they may be a part of their own, and wait for all parts so far."""
        limits, number, done = self._store.limits, len(self._sending) + 1, self._size + len(self._gathered)
        early = not limits.even and may_end_early(limits, self._wanted, self._expected, number, done)
        return await self._saved(send=early and len(self._gathered) >= limits.least)

    async def finish(self) -> Saved:
        saved = await self._saved(send=len(self._gathered) > 0 or not len(self._sending))
        await self.close()
        return saved

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        if self._listed is None and not await self.exists():
            # An earlier commit may have made the object, although its answer was lost.
            if not await self._made_before():
                raise self._store.refusals.gone(self._target)
        else:
            await self._complete(replace, over)
        return await self._look(self._size, prove)

    async def store(self, data: bytes, *, replace: bool, commit: Check) -> Stored:
        headers = self._metadata(hashlib.sha256(data).hexdigest())

        async def put(condition: Mapping[str, str]) -> None:
            # Not cancelled, so that nothing of it is still to arrive when this has ended.
            putting = self._store.put(self._target, data, {**headers, **condition})
            self._made = await finish_despite_cancel(Deferred.fromCoroutine(putting))

        conditions = self._tools.conditions
        conditions.check_visible(self._store, self._target)
        await (conditions.tidy(self._store) if replace else conditions.ready(self._store))
        try:
            await conditions.put(self._store, self._target, put, replace=replace, check=commit)
        except Refused as refusal:
            raise await self._explained(self._store.refusals.of(refusal, self._target)) from refusal
        except ChecksumMismatch:
            # It was stored, but its ETag is that of other bytes.
            await self._remove(await self._store.head(self._target))
            raise
        return await self._look(len(data), None)

    async def abort(self, check: Check = unchecked) -> None:
        if self._token.upload:
            check()
            await self._store.abort_upload(self._target, self._token.upload)
        elif self._asked_at is not None:
            check()
            await self._store.abort_lost(self._target, self._asked_at)
            self._asked_at = None

    async def close(self) -> None:
        self._gathered = Gathered()
        if self._leave is not None:
            self._leave()
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.close()

    # Parts ----------------------------------------------------------------------------------------------------

    @property
    def _sending(self) -> PartSender:
        assert self._parts is not None, "it is not open"
        return self._parts

    def _metadata(self, sha256: str | None = None) -> Mapping[str, str]:
        """Return the object's metadata as headers, with ``sha256`` (hex) or the digest in the token."""
        return self._store.metadata(self._kept(sha256))

    def _kept(self, sha256: str | None = None) -> ObjectMetadata:
        return ObjectMetadata(self._token.name, self._token.modified, sha256 or self._token.sha256)

    @property
    def _wanted(self) -> int:
        """Bytes of a part, unless the file is so large that it needs larger ones."""
        return min(self._tools.part_size, max(self._store.limits.least, IN_FLIGHT.size // 2))

    def _part_size(self, number: int) -> int:
        limits = self._store.limits
        if not limits.even:
            return part_size(limits, self._wanted, self._expected, number, self._size)
        if self._even is None:
            first = self._listed[0].size if self._listed else 0
            self._even = first or part_size(limits, self._wanted, self._expected, 0, 0)
        return self._even

    async def _create(self) -> None:
        key = UploadKey(self._token.transfer, self._token.content)
        self._asked_at = time.time()
        try:
            upload = await self._store.begin_upload(self._target, key, self._metadata())
        except DataMoverError as error:
            if not error.retryable:
                self._asked_at = None  # It was refused.
            raise
        self._asked_at = None
        self._token = changed(self._token, upload=upload)

    async def _send(self, data: bytes) -> None:
        self._size += len(data)
        await self._sending.send(data)

    async def _saved(self, *, send: bool) -> Saved:
        """Send the gathered bytes if asked to, wait for all parts so far, and return what is saved with them."""
        sending: Deferred[None] = succeed(None)
        if send:
            data = self._gathered.take(len(self._gathered))
            sending = Deferred.fromCoroutine(self._send(data))
        # More parts may be sent while this waits.
        size, count = self._size, len(self._sending)
        try:
            await sending
            parts = await self._sending.arrived(count)
        except ServerError as error:
            raise await self._explained(error) from error
        token = changed(self._token, parts=count, digest=digest(parts))
        if count >= self._token.parts:
            self._token, self._listed = token, parts
        return Saved(size, str(token))

    async def _list(self) -> list[Part] | None:
        """Return the saved parts as the service lists them, None if it does not have them."""
        if not self._token.upload:
            return None
        found = await self._store.list_parts(self._target, self._token.upload)
        if found is None:
            return None
        parts = [found[number] for number in range(1, self._token.parts + 1) if number in found]
        # A part may be listed with a checksum that the answer to it did not tell, and not the other way round: an
        # upload is completed only with all checksums of its parts.
        known = {digest(parts), digest(changed(part, sha256="") for part in parts)}
        same = len(parts) == self._token.parts and (not parts or self._token.digest in known)
        return parts if same else None

    # The object -----------------------------------------------------------------------------------------------

    async def _complete(self, replace: bool, over: str | None) -> None:
        try:
            await self._tools.conditions.complete(
                self._store, self._target, self._put_together, replace=replace, over=over
            )
        except Refused as refusal:
            # That is no error if our own commit made the object, and its answer was lost.
            if not (refusal.status == 412 or refusal.upload_gone) or not await self._made_before():
                raise await self._explained(self._store.refusals.of(refusal, self._target)) from refusal
        except (DestinationExists, ServerError):  # The latter also for an answer that cannot be read.
            if not await self._made_before():
                raise
        except ChecksumMismatch:
            await self._remove(await self._store.head(self._target))
            raise

    async def _put_together(self, condition: Mapping[str, str]) -> None:
        """Ask the service to complete the upload, again if it refuses that for the moment. Raises Refused."""
        parts, upload, tries = self._listed or [], self._token.upload, 0
        while True:
            try:
                self._made = await self._store.complete(self._target, upload, parts, self._metadata(), condition)
            except Refused as refusal:
                tries += 1
                error = self._store.refusals.of(refusal, self._target)
                pause = pause_before(tries, error, random.random, most=COMPLETIONS)
                if pause is None or refusal.header_unknown:
                    raise
            else:
                return
            await deferLater(self._tools.clock, pause)

    async def _explained(self, error: DataMoverError) -> DataMoverError:
        """Return an error with its likely reason: a directory is in the way, which not all services say."""
        way = await self._in_the_way() if isinstance(error, ServerError) else None
        return error if way is None else error.saying(f"{error.message}: {way}", full=f"{error.full}: {way}")

    async def _in_the_way(self) -> str | None:
        with suppress(DataMoverError):
            if (await self._tools.origin(self._target).inspect()).directory:
                return "there is a directory of that name"
        parent = posixpath.dirname(self._target)
        with suppress(DataMoverError):
            while parent:
                if await self._store.head(parent) is not None:
                    return f"{parent!r} is a file there"
                parent = posixpath.dirname(parent)
        return None

    async def _made_before(self) -> bool:
        """Tell whether an interrupted commit of this upload made the target; if so, remove the upload's leftovers."""
        found = await self._store.head(self._target)
        if found is None or found.inspection.size != self._size or not self._is_ours(found):
            return False
        await self._store.abort_upload(self._target, self._token.upload)
        return True

    async def _look(self, size: int, prove: Prove | None) -> Stored:
        """Check the object. If this upload made it and it is wrong, remove it; there is no old one to restore.

        An object that another wrote meanwhile stays. If the look fails, nothing is removed; the next attempt looks.
        """
        try:
            found = await self._store.head(self._target)
        except DestinationForbidden as error:
            self._tools.conditions.hidden(error)
            stays = "was stored and stays there, but is not known to be whole"
            raise self._store.refusals.consequence(self._target, stays, error) from error
        if found is not None and self._is_ours(found) is False:
            raise self._store.refusals.overtaken(self._target)
        if found is None or found.inspection.size != size:
            held = None if found is None else found.inspection.size
            await self._remove(found)
            raise self._store.refusals.other_size(self._target, "under its name", held, size)
        if prove is not None:
            try:
                await prove(self._tools.origin(self._target))
            except ChecksumMismatch:
                await self._remove(found)
                raise
        untimed = self._token.modified is not None and self._is_ours(found) is None
        without = (_NO_METADATA,) if untimed and found.inspection.modified != self._token.modified else ()
        return Stored(size, found.inspection.digests if self._is_ours(found) else {}, without)

    async def _remove(self, wrong: FoundObject | None) -> None:
        """Remove a wrong object, if it is ours and unchanged."""
        if wrong is not None and self._is_ours(wrong):
            await self._tools.conditions.remove(self._store, self._target, wrong)

    def _is_ours(self, found: FoundObject) -> bool | None:
        """Tell whether this upload made an object, by the commit's answer and the metadata; None if neither says."""
        told = self._made.is_it(found.etag, found.version)
        if told is False:
            return False
        known = self._store.is_made(found, self._token.upload, self._kept())
        return True if told and not found.upload else known
