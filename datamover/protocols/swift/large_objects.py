"""Static large objects: store, list and remove segments, and make objects of them.

Segments cost money, so they are removed as soon as no object needs them: when an object of ours is replaced or removed,
and when an upload is aborted. Others' segments are left alone.
"""

from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

from twisted.logger import Logger

from datamover.concurrency.gather import gather
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.found import etag_in
from datamover.protocols.object_store.metadata import ObjectMetadata
from datamover.protocols.object_store.seam import Part
from datamover.protocols.swift import segments
from datamover.protocols.swift.listing import every
from datamover.protocols.swift.objects import PREFIX, UPLOAD, found_in
from datamover.protocols.swift.outcomes import ASKED, outcome_of
from datamover.protocols.swift.refusals import SwiftRefusals
from datamover.protocols.swift.service import Name, SwiftService
from datamover.protocols.swift.writer import ObjectWriter

log = Logger()

MOST_ENTRIES = 1000
"""Entries of one manifest; ``max_manifest_segments`` is 1,000 unless an operator changes it."""
AT_ONCE = 8
"""Segments that are removed at the same time."""
COPIED = 5 * 10**6
"""Bytes a second that a service copies, at least."""
LOOKED_AT = 5
"""Segments a second that a service checks before it makes an object of them, at least."""
HEARTBEAT_FROM = 50
"""Entries of a manifest from which on the service is asked to send spaces while it works, so that proxies wait."""
_MANIFEST = [("multipart-manifest", "put")]
_HEARTBEAT = [*_MANIFEST, ("heartbeat", "on")]


class LargeObjects:
    """The large objects of one destination, with their segments in ``container``. All methods raise Refused."""

    def __init__(
        self,
        service: SwiftService,
        container: str,
        writer: ObjectWriter,
        refusals: SwiftRefusals,
        *,
        largest_plain: int,
    ) -> None:
        """``largest_plain``: bytes of the largest file that becomes a plain object."""
        self.container = container
        self._largest_plain = largest_plain
        self._service = service
        self._writer = writer
        self._refusals = refusals
        self._copies: bool | None = None
        """Whether a copy of a large object has its content; None: unknown."""

    # Segments -------------------------------------------------------------------------------------------------

    async def put(self, path: str, upload: str, number: int, data: bytes) -> Part:
        """Store a segment of the object at ``path``."""
        told = {"X-Object-Meta-Datamover-Target": quote(path, errors="surrogateescape")[:200]}
        return await self._writer.put(path, self._name(segments.segment(upload, number)), data, told)

    async def parts(self, upload: str) -> dict[int, Part]:
        """Return the segments of an upload by number."""
        found = await self._found(upload)
        return {number: part for name, part in found.items() if (number := segments.number_of(name)) is not None}

    async def uploads(self, transfer: str) -> list[str]:
        """Return the uploads of one transfer that have segments, or a note (``note``)."""
        found = await every(self._service, self.container, segments.prefix_of(transfer))
        return [entry.name.rstrip("/") for entry in found if entry.name.endswith("/")]

    # Objects --------------------------------------------------------------------------------------------------

    async def make(self, path: str, name: Name, upload: str, parts: list[Part], headers: Mapping[str, str]) -> None:
        """Make a static large object of the first segments of an upload."""
        headers = {**headers, UPLOAD: upload}
        named = [(segments.segment(upload, number), part) for number, part in enumerate(parts, 1)]
        while len(named) > MOST_ENTRIES:
            # A manifest may name others, of a thousand segments each.
            chunks = [named[start : start + MOST_ENTRIES] for start in range(0, len(named), MOST_ENTRIES)]
            named = []
            for index, chunk in enumerate(chunks):
                below = f"{upload}/manifest-{len(chunks)}-{index:04d}"
                named.append((below, await self._manifest(path, self._name(below), chunk, {})))
        await self._manifest(path, name, named, headers)

    async def flatten(self, path: str, name: Name, upload: str, parts: list[Part], headers: Mapping[str, str]) -> None:
        """Make a plain object of the one that ``make`` made, if it is small enough, and remove spare segments.

        The service copies it. An object of several segments stays a large one if the service's copies of large objects
        are empty, as those of Ceph's gateway are.
        """
        one, size = len(parts) == 1, sum(part.size for part in parts)
        if size > self._largest_plain:
            await self.drop(upload, after=len(parts))
            return
        if not one and self._copies is None:
            self._copies = await self._copies_whole(path, name, upload, size)
        if not one and not self._copies:
            await self.drop(upload, after=len(parts))
            return
        source = self._name(segments.segment(upload, 1)) if one else name
        try:
            await self._copy(path, source, name, parts[0].etag if one else None, headers, size)
        except Refused as refusal:
            if refusal.status >= 500:
                raise  # The service may still complete the copy.
            log.warn("{name} stays a large object: {refusal}", name=str(name), refusal=str(refusal))
            await self.drop(upload, after=len(parts))
            return
        await self.drop(upload)

    async def settle(self, path: str, name: Name, upload: str) -> None:
        """Complete an interrupted commit, for an object that is made of the upload's segments.

        If it was interrupted during a copy, the service may complete that at any time, and nobody would remove the
        segments then.
        """
        head = (await self._service.ask("HEAD", name)).head
        parts: list[Part] = []
        for _, part in sorted((await self.parts(upload)).items()):
            if sum(each.size for each in parts) < (head.length or 0):
                parts.append(part)
        if sum(each.size for each in parts) != head.length:
            return  # Somebody else has changed the object: nothing is removed.
        headers = {**ObjectMetadata.of(head, PREFIX).headers(PREFIX), "Content-Type": head.header("Content-Type") or ""}
        await self.flatten(path, name, upload, parts, headers)

    async def _copies_whole(self, path: str, name: Name, upload: str, size: int) -> bool:
        """Find out by a copy beside the segments whether a copy of a large object has its content."""
        trial = f"{upload}/{segments.TRIAL}"
        try:
            await self._copy(path, name, self._name(trial), None, {}, size)
        except Refused as refusal:
            if refusal.status >= 500:
                raise
            return False
        copy = await self._head(trial)
        return copy is not None and copy.size == size

    async def _copy(
        self, path: str, source: Name, target: Name, etag: str | None, headers: Mapping[str, str], size: int
    ) -> None:
        sent = {**headers, "X-Copy-From": source.encoded, "X-Fresh-Metadata": "true"}
        await self._writer.make(path, target, etag, headers=sent, extra=size / COPIED)

    async def upload_of(self, name: Name, *, file: str | None = None) -> str | None:
        """Return the upload whose segments an object is made of, None if it is none of ours.

        Raises DestinationInvalid if the object stands for a directory and the file at the path ``file`` would replace
        it.
        """
        try:
            head = (await self._service.ask("HEAD", name)).head
            found = found_in("", head)
            if file is not None and found.inspection.directory:
                raise self._refusals.directory(file)
            if not found.static_large:
                return None
            answer = await self._service.ask("GET", name, [("multipart-manifest", "get")])
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        # Ceph's gateway does not return manifests; there the object's metadata name the upload.
        upload = head.header(UPLOAD)
        if answer.body:
            upload = await self._service.run(segments.upload_in(self.container, answer.body))
        if upload is None or not segments.is_of(upload, name.object):
            upload = None  # Also if somebody copied the manifest of another object.
            log.warn("{name} has segments that are not datamover's: they are left alone", name=str(name))
        return upload

    async def remove(self, name: Name, upload: str) -> None:
        """Remove a large object and its segments, all of which are of ``upload``."""
        try:
            answer = await self._service.ask("DELETE", name, [("multipart-manifest", "delete")], ASKED)
            outcome_of(answer.head, answer.body)
        except Refused as refusal:
            if refusal.status != 404:
                raise
        await self.drop(upload)

    # Cleaning up ----------------------------------------------------------------------------------------------

    async def note(self, path: str, upload: str, replaced: str) -> None:
        """Store beside an upload's segments which upload's object it will replace, in case this process is killed."""
        await self._writer.put(path, self._name(f"{upload}/{segments.REPLACES}"), replaced.encode(), {})

    async def noted(self, upload: str) -> str | None:
        """Return what ``note`` stored, None if it stored nothing."""
        try:
            answer = await self._service.ask("GET", self._name(f"{upload}/{segments.REPLACES}"))
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        return answer.body.decode("utf-8", "replace")

    async def drop(self, upload: str, *, after: int | None = None) -> None:
        """Remove an upload's objects; with ``after`` only the segments above that number, the note and the trial."""
        names = [name for name in sorted(await self._found(upload)) if after is None or _is_behind(name, after)]
        await gather([partial(self._delete, f"{upload}/{name}") for name in names], AT_ONCE)

    # Below ----------------------------------------------------------------------------------------------------

    async def _found(self, upload: str) -> dict[str, Part]:
        """Return the objects of an upload by their names in its directory."""
        listed = await every(self._service, self.container, f"{upload}/", deep=True)
        found = {entry.name.removeprefix(f"{upload}/"): Part(entry.size, entry.etag) for entry in listed}
        # A listing may be out of date, so segments that it lacks are asked for by name.
        number = 1
        while True:
            name = segments.segment(upload, number)
            if (below := name.removeprefix(f"{upload}/")) not in found:
                part = await self._head(name)
                if part is None:
                    return found
                found[below] = part
            number += 1

    def _name(self, name: str) -> Name:
        return Name(self.container, name)

    async def _manifest(self, path: str, name: Name, named: list[tuple[str, Part]], headers: Mapping[str, str]) -> Part:
        etag = segments.etag_of(part for _, part in named)
        body = segments.manifest(self.container, named)
        many = len(named) >= HEARTBEAT_FROM
        query, sent = (_HEARTBEAT, {**headers, **ASKED}) if many else (_MANIFEST, headers)
        await self._writer.make(path, name, etag, query=query, headers=sent, body=body, extra=len(named) / LOOKED_AT)
        return Part(sum(part.size for _, part in named), etag)

    async def _head(self, name: str) -> Part | None:
        try:
            head = (await self._service.ask("HEAD", self._name(name))).head
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        return Part(head.length or 0, etag_in(head))

    async def _delete(self, name: str) -> None:
        try:
            await self._service.ask("DELETE", self._name(name))
        except Refused as refusal:
            if refusal.status != 404:
                raise


def _is_behind(name: str, after: int) -> bool:
    number = segments.number_of(name)
    return name in (segments.REPLACES, segments.TRIAL) or (number is not None and number > after)
