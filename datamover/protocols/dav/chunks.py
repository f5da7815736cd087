"""Uploads in chunks to ownCloud 10 and Nextcloud: a collection of chunks that is moved to the target.

The protocol is Nextcloud's "Chunked file upload", version 2: MKCOL of uploads/USER/ID, PUT of the chunks 1 to 10,000,
each with the Destination, and MOVE of ID/.file. ownCloud's has the same requests without the limits. ``DavStore`` is
its ``ObjectStore``. Small files are put whole, under a hidden name, and moved.
"""

import copy
import os
import posixpath
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from datamover.errors import ConnectionLost, DataMoverError, ServerError, Stalled
from datamover.protocols.dav.address import Cloud, DavAddress, segments_of
from datamover.protocols.dav.documents import FILE, Member, MultistatusParser
from datamover.protocols.dav.files import DavFiles
from datamover.protocols.dav.looks import TAG, DavLook, look_of, time_header
from datamover.protocols.dav.refusals import DavRefusals
from datamover.protocols.dav.service import PATIENCE, PAUSE, DavRefused, DavService, answer_lost
from datamover.protocols.http.request_body import SlicedBody
from datamover.protocols.http_place.json_documents import short_json
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.object_store.limits import S3_LIMITS
from datamover.protocols.object_store.metadata import ObjectMetadata
from datamover.protocols.object_store.seam import NO_CONDITION, FoundObject, Made, Part
from datamover.protocols.part_files.names import part_path, prefix
from datamover.protocols.upload import UploadKey
from datamover.web.url import WebUrl

SUFFIX = ".partial"
"""The end of hidden files' names; Nextcloud and ownCloud refuse ".part" and ".filepart"."""
REMEMBERED = 1000
"""Uploads whose files' ETags are remembered."""

_CHUNK = re.compile(r"\d{1,10}")
_NOT_HERE = frozenset({404, 405, 409, 410, 501})
"""With these, servers refuse to begin an upload in chunks that know none."""
_EXPIRED = frozenset({404, 409, 410, 412})
"""With these, servers refuse a chunk whose upload is not there any more: Nextcloud remembers one for a day."""
_WHOLE = ".file"
"""The name of all chunks together, in the collection that holds them."""


class Chunking:
    """Whether a server supports uploads in chunks: asked once, and remembered."""

    def __init__(self, service: DavService, cloud: Cloud | None, refusals: DavRefusals) -> None:
        self.cloud = cloud
        self.taken: bool | None = None if cloud is not None else False
        """None: it is not known."""
        self._service = service
        self._refusals = refusals

    async def ask(self) -> bool:
        """Tell whether it does; if the server does not say, chunks are tried because its URL is that of a cloud."""
        if self.taken is None and self.cloud is not None:
            url = WebUrl(*self._service.address.root.origin, self.cloud.capabilities, "format=json")
            try:
                headers = {"OCS-APIRequest": "true", "Accept": "application/json"}
                with self._refusals.connecting():
                    answer = await self._service.ask("GET", url, headers)
                told = short_json(answer.body)["ocs"]["data"]["capabilities"]
                self.taken = bool(told["dav"].get("chunking"))
            except (DavRefused, ValueError, KeyError, TypeError, AttributeError):
                return True
        return self.taken is not False


class DavStore:
    """``object_store.seam.ObjectStore`` of one collection, with the errors of one side."""

    limits = S3_LIMITS

    def __init__(self, files: DavFiles, chunking: Chunking, reactor: Any) -> None:
        self._files = files
        self._chunking = chunking
        self._reactor = reactor
        self._service = files.service
        self._made: dict[str, str] = {}
        """Upload -> the ETag of the file that it became, as the server told it."""
        self._total: int | None = None

    def of(self, size: int | None) -> "DavStore":
        """Return the store for a file of ``size`` bytes, None if unknown; the server checks its quota by it first."""
        store = copy.copy(self)
        store._total = size
        return store

    @property
    def refusals(self) -> DavRefusals:
        return self._files.refusals

    async def head(self, path: str) -> FoundObject | None:
        """Inspect a file; None if there is none. Raises the error for a directory."""
        found = await self._files.look(path)
        if found is not None and found.collection:
            raise self.refusals.directory(path)
        return None if found is None else FoundObject(found.inspection(path), self._files.unchanged(path, found))

    def is_made(self, found: FoundObject, upload: str, kept: ObjectMetadata) -> bool | None:
        """Compare with the ETag that the server reported for the assembled file.

        If that answer was lost, compare the modification time, if the source has one.
        """
        there, etag = found.inspection, self._made.get(upload)
        if etag is not None and there.identity is not None and there.identity.startswith(TAG):
            return there.identity == f"{TAG}{etag}"
        sent = time_header(kept.modified)
        return True if sent and kept.modified is not None and there.modified == int(kept.modified) else None

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> Made:
        """Store a small file under a hidden name, and move it."""
        part = part_path(path, UploadKey("probe", os.urandom(8).hex()), SUFFIX)
        await self._files.put(part, data, None, path)
        try:
            await self._files.move(part, path, headers)
        except BaseException:
            with suppress(DataMoverError):
                await self._files.delete(part)
            raise
        return Made()

    async def delete(self, path: str, condition: Mapping[str, str] = NO_CONDITION, *, version: str = "") -> None:
        """Remove a file, on a condition if one is given; do nothing if it is missing."""
        if not condition:
            await self._files.delete(path)
            return
        with self.refusals.connecting():
            try:
                await self._service.ask("DELETE", self._service.address.url(path), condition)
            except DavRefused as refusal:
                if not refusal.missing:
                    raise

    async def beginning(self, name: str) -> list[str]:
        return []  # ``Habits`` removes its leftovers itself.

    def metadata(self, kept: ObjectMetadata) -> Mapping[str, str]:
        """Return the header for the modification time; servers store none of the other metadata."""
        return time_header(kept.modified)

    async def begin_upload(self, path: str, key: UploadKey, metadata: Mapping[str, str]) -> str:
        upload = f"{prefix(key.transfer)}{key.content}-{os.urandom(4).hex()}".removeprefix(".")
        # Nextcloud looks for it at each chunk.
        await self._files.make_directory(posixpath.dirname(path))
        with self.refusals.about(path):
            try:
                await self._service.ask("MKCOL", self._url(upload), self._destination(path))
            except DavRefused as refusal:
                if refusal.status not in _NOT_HERE:
                    raise
                self._chunking.taken = False
                raise ServerError(
                    f"{self.refusals.what(path)}: the server takes no uploads in chunks; it is sent whole next",
                    scope=self.refusals.side,
                ) from refusal
            except DataMoverError:
                # The answer may be what was lost.
                with suppress(DataMoverError, DavRefused):
                    await self.abort_upload(path, upload)
                raise
        self._chunking.taken = True
        return upload

    async def abort_lost(self, path: str, since: float) -> None:
        """Do nothing: the id is made by ``begin_upload``, which removes the upload itself if its answer is lost."""

    async def put_part(self, path: str, upload: str, number: int, data: bytes) -> Part:
        """Store a chunk, and look at it."""
        url, headers = self._url(upload, f"{number:05d}"), self._destination(path)
        if self._total is not None:
            headers["OC-Total-Length"] = str(self._total)
        with self.refusals.about(path), self.refusals.reading(path):
            try:
                await self._service.ask("PUT", url, headers, SlicedBody(data))
            except DavRefused as refusal:
                if refusal.status in _EXPIRED:
                    raise self._expired(path) from refusal
                raise
            found: list[Member] = []
            try:
                await self._service.find(url, 0, FILE, MultistatusParser(found.append))
            except DavRefused as refusal:
                if not refusal.missing:
                    raise
        if found:
            looked = look_of(found[0])
            part = Part(looked.size, looked.etag) if looked.size is not None else None
        else:
            # If the server passes chunks on to an object store, they are listed but cannot be looked at by name.
            part = (await self.list_parts(path, upload) or {}).get(number)
        if part is None or part.size != len(data):
            held = None if part is None else part.size
            raise self.refusals.other_size(path, f"in its chunk {number}", held, len(data))
        return part

    async def list_parts(self, path: str, upload: str) -> dict[int, Part] | None:
        parts: dict[int, Part] = {}

        def take(member: Member) -> None:
            name, looked = "".join(segments_of("".join(member.hrefs[:1]))[-1:]), look_of(member)
            if _CHUNK.fullmatch(name) and not looked.collection:
                if looked.size is None:
                    raise Unreadable("it tells no size of a chunk")
                parts[int(name)] = Part(looked.size, looked.etag)

        with self.refusals.about(path), self.refusals.reading(path):
            try:
                await self._service.find(self._url(upload), 1, FILE, MultistatusParser(take))
            except DavRefused as refusal:
                if refusal.missing:
                    return None
                raise
        return parts

    async def complete(
        self, path: str, upload: str, parts: list[Part], metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> Made:
        """Have the server assemble the chunks as the target; further chunks are removed first."""
        size = sum(part.size for part in parts)
        old = await self._files.look(path)
        if old is not None and old.collection:
            raise self.refusals.directory(path)
        held = await self.list_parts(path, upload)
        if held is None or [held.get(number) for number in range(1, len(parts) + 1)] != parts:
            raise self.refusals.gone(path)
        with self.refusals.about(path):
            for number in held:
                if number > len(parts):
                    try:
                        await self._service.ask("DELETE", self._url(upload, f"{number:05d}"))
                    except DavRefused as refusal:
                        if refusal.missing:  # It cannot be removed alone: the upload is begun anew.
                            raise self.refusals.gone(path) from refusal
                        raise
        headers = {**metadata, **condition, "OC-Total-Length": str(size)}
        source = self._url(upload, _WHOLE)
        try:
            self._note(upload, await self._files.move_url(source, path, headers))
        except (DavRefused, ConnectionLost, Stalled) as error:
            patience = PATIENCE if answer_lost(error) else 0.0
            # The chunks are gone if an earlier MOVE, whose answer was lost, has ended meanwhile.
            if isinstance(error, DavRefused) and error.status < 500 and not error.missing:
                raise
            if not await self._put_together(path, upload, size, old, patience):
                if isinstance(error, DavRefused) and error.missing:
                    raise self._expired(path) from error
                raise
        return Made()

    async def abort_upload(self, path: str, upload: str) -> None:
        with self.refusals.about(path):
            # Nextcloud gives up only by this what it has passed on to an object store; others remove all by it.
            with suppress(DavRefused):
                await self._service.ask("DELETE", self._url(upload, _WHOLE), self._destination(path))
            try:
                await self._service.ask("DELETE", self._url(upload))
            except DavRefused as refusal:
                if not refusal.missing:
                    raise

    async def uploads(self, transfer: str) -> list[str]:
        """Return the uploads in chunks that a transfer began."""
        if self._chunking.cloud is None or self._chunking.taken is False:
            return []
        own = prefix(transfer).removeprefix(".")
        home = DavFiles(self._service.at(self._home), self.refusals, self._files.learnt)
        return [name for name in await home.names("") if name.startswith(own)]

    async def _put_together(self, path: str, upload: str, size: int, old: DavLook | None, patience: float) -> bool:
        """Tell whether the server, whose answer was lost, assembles the chunks within ``patience`` seconds."""
        until = self._reactor.seconds() + patience
        while True:
            # It may be locked meanwhile.
            with suppress(ServerError):
                if await self.list_parts(path, upload) is None:
                    found = await self._files.look(path)
                    if found is None or found.size != size or found == old:
                        return False
                    self._note(upload, found.etag)
                    return True
            if self._reactor.seconds() >= until:
                return False
            await self._service.wait(PAUSE)

    def _expired(self, path: str) -> DataMoverError:
        self._files.learnt.directories.clear()  # It may be the target's directory that is not there any more.
        return self.refusals.gone(path)

    def _note(self, upload: str, etag: str) -> None:
        if etag:
            self._made[upload] = etag
        if len(self._made) > REMEMBERED:
            del self._made[next(iter(self._made))]

    @property
    def _home(self) -> DavAddress:
        cloud = self._chunking.cloud
        assert cloud is not None, "the server takes no chunks"
        return self._service.address.sibling(cloud.uploads)

    def _url(self, upload: str, name: str = "") -> WebUrl:
        return self._home.url(f"{upload}/{name}" if name else upload)

    def _destination(self, path: str) -> dict[str, str]:
        return {"Destination": self._files.destinations(path)[self._files.learnt.destination]}
