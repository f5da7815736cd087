"""Static large objects: their segments, which are stored, listed, made an object of, and removed.

Segments cost money, and go as soon as no object needs them: those of an object of ours that is replaced or removed, and
those of an upload that is given up. What is not ours is left alone.
"""

from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

from twisted.logger import Logger

from datamover.concurrency.gather import gather
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.found import etag_in
from datamover.protocols.object_store.metadata import Metadata
from datamover.protocols.object_store.seam import Part
from datamover.protocols.swift import segments
from datamover.protocols.swift.listing import every
from datamover.protocols.swift.objects import PREFIX, UPLOAD, found_in
from datamover.protocols.swift.outcomes import ASKED, outcome_of
from datamover.protocols.swift.refusals import SwiftRefusals
from datamover.protocols.swift.service import Name, Service
from datamover.protocols.swift.writer import Writer

log = Logger()

MOST_ENTRIES = 1000
"""Of one manifest; ``max_manifest_segments`` is 1,000 unless an operator changes it."""
AT_ONCE = 8
"""Segments that are removed at a time."""
COPIED = 5 * 10**6
"""Bytes a second, at least, at which a service copies."""
LOOKED_AT = 5
"""Segments a second, at least, that a service looks at before it makes an object of them."""
HEARTBEAT_FROM = 50
"""Entries of a manifest from which on the service is asked to send spaces while it works, for the sake of proxies."""
_MANIFEST = [("multipart-manifest", "put")]
_HEARTBEAT = [*_MANIFEST, ("heartbeat", "on")]


class LargeObjects:
    """The large objects of one side, with their segments in ``container``. What is refused is raised as Refused."""

    def __init__(
        self, service: Service, container: str, writer: Writer, refusals: SwiftRefusals, *, largest_plain: int
    ) -> None:
        """``largest_plain``: bytes up to which a file is to become a plain object."""
        self.container = container
        self._largest_plain = largest_plain
        self._service = service
        self._writer = writer
        self._refusals = refusals
        self._copies: bool | None = None
        """Whether a copy of a large object holds its content; None: it is not known."""

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
        """Return the uploads of one transfer that have segments, or a note of what they replace."""
        found = await every(self._service, self.container, segments.prefix_of(transfer))
        return [entry.name.rstrip("/") for entry in found if entry.name.endswith("/")]

    # Objects --------------------------------------------------------------------------------------------------

    async def make(self, path: str, name: Name, upload: str, parts: list[Part], headers: Mapping[str, str]) -> None:
        """Make a static large object of the first segments of an upload."""
        headers = {**headers, UPLOAD: upload}
        named = [(segments.segment(upload, number), part) for number, part in enumerate(parts, 1)]
        while len(named) > MOST_ENTRIES:
            # A manifest may name others: these are of a thousand segments each.
            chunks = [named[start : start + MOST_ENTRIES] for start in range(0, len(named), MOST_ENTRIES)]
            named = []
            for index, chunk in enumerate(chunks):
                below = f"{upload}/manifest-{len(chunks)}-{index:04d}"
                named.append((below, await self._manifest(path, self._name(below), chunk, {})))
        await self._manifest(path, name, named, headers)

    async def flatten(self, path: str, name: Name, upload: str, parts: list[Part], headers: Mapping[str, str]) -> None:
        """Make a plain object of the large one that ``make`` made, if it is small enough, and remove what is left over.

        That is done within the service. One of several segments stays where the service's copies of large objects are
        empty, as Ceph's gateway's are.
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
                raise  # It may go on with it.
            log.warn("{name} stays a large object: {refusal}", name=str(name), refusal=str(refusal))
            await self.drop(upload, after=len(parts))
            return
        await self.drop(upload)

    async def settle(self, path: str, name: Name, upload: str) -> None:
        """Do for an object that is made of an upload's segments what its commit was to do yet.

        Where that was broken off amid a copy, the service may end it nevertheless: nobody would remove the segments.
        """
        head = (await self._service.ask("HEAD", name)).head
        parts: list[Part] = []
        for _, part in sorted((await self.parts(upload)).items()):
            if sum(each.size for each in parts) < (head.length or 0):
                parts.append(part)
        if sum(each.size for each in parts) != head.length:
            return  # Somebody else has changed it: nothing of it is removed.
        headers = {**Metadata.of(head, PREFIX).headers(PREFIX), "Content-Type": head.header("Content-Type") or ""}
        await self.flatten(path, name, upload, parts, headers)

    async def _copies_whole(self, path: str, name: Name, upload: str, size: int) -> bool:
        """Find out by a copy beside the segments whether a copy of a large object holds its content."""
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
        """Return the upload whose segments the object there is made of; None where that is none of ours.

        Raises DestinationInvalid where it stands for a directory, and is to be replaced by the ``file`` (its path).
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
        # Ceph's gateway does not show manifests: the object tells by itself what it is made of.
        upload = segments.upload_in(self.container, answer.body) if answer.body else head.header(UPLOAD)
        if upload is None or not segments.is_of(upload, name.object):
            upload = None  # So it is, too, where somebody copied the manifest of another object.
            log.warn("{name} has segments that are not datamover's: they are left alone", name=str(name))
        return upload

    async def remove(self, name: Name, upload: str) -> None:
        """Remove a large object and the segments that are all of ``upload``."""
        try:
            answer = await self._service.ask("DELETE", name, [("multipart-manifest", "delete")], ASKED)
            outcome_of(answer.head, answer.body)
        except Refused as refusal:
            if refusal.status != 404:
                raise
        await self.drop(upload)

    # Cleaning up ----------------------------------------------------------------------------------------------

    async def note(self, path: str, upload: str, replaced: str) -> None:
        """Note beside an upload's segments which upload's object it is about to replace, should this process die."""
        await self._writer.put(path, self._name(f"{upload}/{segments.REPLACES}"), replaced.encode(), {})

    async def noted(self, upload: str) -> str | None:
        """Return what ``note`` noted."""
        try:
            answer = await self._service.ask("GET", self._name(f"{upload}/{segments.REPLACES}"))
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        return answer.body.decode("utf-8", "replace")

    async def drop(self, upload: str, *, after: int | None = None) -> None:
        """Remove what there is of an upload; ``after``: only segments behind that number, its note and the trial."""
        names = [name for name in sorted(await self._found(upload)) if after is None or _is_behind(name, after)]
        await gather([partial(self._delete, f"{upload}/{name}") for name in names], AT_ONCE)

    # Below ----------------------------------------------------------------------------------------------------

    async def _found(self, upload: str) -> dict[str, Part]:
        """Return what there is of an upload, by the names in its directory."""
        listed = await every(self._service, self.container, f"{upload}/", deep=True)
        found = {entry.name.removeprefix(f"{upload}/"): Part(entry.size, entry.etag) for entry in listed}
        # A listing may be late: segments that are not in it are looked for.
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
