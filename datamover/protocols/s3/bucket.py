"""The operations on one bucket, below a prefix, with the errors of one side."""

import hashlib
import posixpath
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from datamover.errors import DataMoverError
from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import UNSATISFIABLE, Head
from datamover.protocols.http.client.response import Response
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.object_store.found import etag_in, is_object
from datamover.protocols.object_store.limits import PartLimits
from datamover.protocols.object_store.metadata import ObjectMetadata, content_type
from datamover.protocols.object_store.seam import NO_CONDITION, FoundObject, Made, Part
from datamover.protocols.object_store.trials import is_probe
from datamover.protocols.s3 import documents
from datamover.protocols.s3.address import LONGEST_KEY
from datamover.protocols.s3.documents import Listing, Pending
from datamover.protocols.s3.initiator import Initiator
from datamover.protocols.s3.made import MadeUploads
from datamover.protocols.s3.objects import PREFIX, Storing, found_in, version_in
from datamover.protocols.s3.refusals import S3Refusals
from datamover.protocols.s3.service import PARTS_REFUSED, S3Refused, S3Service
from datamover.protocols.s3.writer import S3Writer
from datamover.protocols.upload import UploadKey

_ALGORITHM = {"x-amz-checksum-algorithm": "SHA256"}
_CHECKSUM_UNKNOWN = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})
_NOT_DONE = frozenset({405, 501})
"""Status of what a service does not do at all."""

SKEW = 900.0
"""Seconds by which the service's clock and ours may differ; it refuses requests beyond that."""


class Bucket:
    """A prefix of a bucket, with the errors of one side. Every path is below the prefix.

    It is ``http_place.seam.Resources`` and ``object_store.seam.ObjectStore``.
    """

    serves_ranges = True

    def __init__(
        self,
        service: S3Service,
        prefix: str,
        refusals: S3Refusals,
        storing: Storing,
        writer: S3Writer,
        made: MadeUploads,
    ) -> None:
        self.service = service
        self.refusals = refusals
        self.made = made
        self._prefix = prefix
        self._storing = storing
        self._writer = writer
        self.initiator = Initiator(self)

    @property
    def limits(self) -> PartLimits:
        return self.made.limits

    def key(self, path: str) -> str:
        """Return the key of a path; raises an error of the side if no service accepts it."""
        key = posixpath.join(self._prefix, path) if path else self._prefix
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise self.refusals.unusable(path, "cannot be a key: it is not UTF-8; give it another name") from None
        if size > LONGEST_KEY:
            raise self.refusals.unusable(
                path, f"cannot be a key: with the destination's prefix it has {size} bytes, {LONGEST_KEY} at most"
            )
        return key

    def inside(self, path: str) -> str:
        """Return the beginning of all keys below a directory."""
        key = self.key(path)
        return f"{key}/" if key else ""

    def path(self, key: str) -> str:
        """Return the path of a key below the prefix."""
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    # Objects --------------------------------------------------------------------------------------------------

    async def head(self, path: str) -> FoundObject | None:
        """Inspect an object; None if there is none."""
        with self.refusals.about(path):
            try:
                try:
                    answer = await self.service.ask("HEAD", self.key(path))
                except S3Refused as refusal:
                    if refusal.status not in (400, 401, 403):
                        raise
                    await self._size(path)  # The answer to a GET says why, that to a HEAD has no body.
                    answer = await self.service.ask("HEAD", self.key(path))
                if not is_object(answer.head):
                    raise self.refusals.foreign(path)
                found = self.found(path, answer.head)
                if found.inspection.size is None:
                    size = await self._size(path)
                    found = replace(found, inspection=replace(found.inspection, size=size))
            except S3Refused as refusal:
                if refusal.missing:
                    return None
                raise
        return found

    async def _size(self, path: str) -> int | None:
        """Return the size that a GET tells: proxies that compress leave a length out. Raises Refused."""
        try:
            response = await self.service.get(self.key(path), {"Range": "bytes=0-0"})
        except S3Refused as refusal:
            if refusal.status != UNSATISFIABLE:
                raise
            return 0
        await response.body.close()
        return self.found(path, response.head).inspection.size

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect an object, or the directory of the keys below it; None if there is neither."""
        name = posixpath.basename(path)
        if not path:
            return Inspection(name, directory=True)
        found = await self.head(path)
        if found is not None:
            return found.inspection
        page = await self.list_page(self.inside(path), path, most=1)
        return Inspection(name, directory=True) if page.keys or page.prefixes else None

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        """Return the answer to the GET of an object. Raises Refused, and errors of the side."""
        with self.refusals.connecting():
            response = await self.service.get(self.key(path), headers)
        if not is_object(response.head):
            await response.body.close()
            raise self.refusals.foreign(path)
        return response

    def found(self, path: str, head: Head) -> FoundObject:
        return found_in(path, head, md5_etags=self._writer.checking.md5_etags)

    def is_made(self, found: FoundObject, upload: str, kept: ObjectMetadata) -> bool | None:
        """Compare the upload's name in the metadata; None if the service tells neither that nor an ETag (JuiceFS)."""
        return found.upload == kept.upload if found.upload or found.etag else None

    def metadata(self, kept: ObjectMetadata) -> Mapping[str, str]:
        return kept.headers(PREFIX)

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> Made:
        """Store a whole object. Raises Refused, and errors of the side."""
        with self.refusals.connecting():
            answer, _ = await self._writer.put(path, self.key(path), (), data, {**self._stored(path), **headers})
        return Made(etag_in(answer.head), version_in(answer.head))

    async def delete(self, path: str, condition: Mapping[str, str] = NO_CONDITION, *, version: str = "") -> None:
        query = [("versionId", version)] if version else []
        with self.refusals.connecting() if condition else self.refusals.about(path):
            try:
                await self.service.ask("DELETE", self.key(path), query, condition)
            except S3Refused as refusal:
                if refusal.status != 404 or refusal.code == "NoSuchBucket":
                    raise

    async def beginning(self, name: str) -> list[str]:
        page = await self.list_page(self.key(name), name)
        return [] if page.following is not None else [self.path(key) for key in page.keys]

    async def list_page(self, prefix: str, path: str, *, following: str | None = None, most: int = 1000) -> Listing:
        """Return a page of the keys and directories whose names begin with ``prefix``."""
        query = [("list-type", "2"), ("prefix", prefix), ("max-keys", str(most)), ("encoding-type", "url")]
        query += [("delimiter", "/")]
        query += [] if following is None else [("continuation-token", following)]
        with self.refusals.about(path):
            answer = await self.service.ask("GET", "", query)
        with self.refusals.reading(path):
            return await self.service.run(documents.listing_of(answer.body))

    # Multipart uploads ----------------------------------------------------------------------------------------

    async def begin_upload(self, path: str, key: UploadKey, metadata: Mapping[str, str]) -> str:
        upload = await self.create_upload(path, metadata)
        self.made.add(upload, key.transfer)
        return upload

    async def create_upload(self, path: str, headers: Mapping[str, str]) -> str:
        """Begin an upload; return its number."""
        sent, checking = {**self._stored(path), **headers}, self._writer.checking
        checked = checking.sha256 and checking.listed is not False
        ask = partial(self.service.ask, "POST", self.key(path), [("uploads", "")], once=True)
        with self.refusals.about(path):
            try:
                answer = await ask({**sent, **_ALGORITHM} if checked else sent)
            except S3Refused as refusal:
                if not checked or refusal.code not in _CHECKSUM_UNKNOWN:
                    raise
                checking.refused()
                checked = False
                answer = await ask(sent)
        with self.refusals.reading(path):
            upload = await self.service.run(documents.upload_of(answer.body))
        if checking.sha256 and not checked:
            self.made.leave_unchecked(upload)
        return upload

    async def put_part(self, path: str, upload: str, number: int, data: bytes) -> Part:
        checking, checked = self._writer.checking, self.made.checked(upload)
        with self.refusals.about(path):
            query = [("partNumber", str(number)), ("uploadId", upload)]
            try:
                answer, digests = await self._writer.put(path, self.key(path), query, data, {}, checked=checked)
            except S3Refused as refusal:
                if self.made.learn(refusal):
                    await self.abort_upload(path, upload)
                raise
        etag = etag_in(answer.head)
        with self.refusals.reading(path):
            if not etag:
                raise Unreadable("it tells no ETag of a part, without which no upload is completed")
        part = Part(len(data), etag, digests.sha256_base64 if checked and not checking.md5 else "")
        if part.sha256 and checking.listed is None:
            checking.listed = True
            with suppress(DataMoverError):
                listed = await self.list_parts(path, upload) or {}
                checking.listed = number not in listed or bool(listed[number].sha256)
        return part

    async def list_parts(self, path: str, upload: str) -> dict[int, Part] | None:
        """Return the parts of an upload by number, None if there is no such upload, or the service lists none."""
        found: dict[int, Part] = {}
        after: str | None = None
        while True:
            query = [("uploadId", upload)] + ([] if after is None else [("part-number-marker", after)])
            with self.refusals.about(path):
                try:
                    answer = await self.service.ask("GET", self.key(path), query)
                except S3Refused as refusal:
                    if refusal.upload_gone or refusal.status in _NOT_DONE:
                        return None
                    raise
            with self.refusals.reading(path):
                page, following, _ = await self.service.run(documents.parts_of(answer.body))
            found.update(page)
            if following is None or following == after:
                break
            after = following
        unchecked = self._writer.checking.sha256 and not any(part.sha256 for part in found.values())
        if unchecked and found and self.made.transfer(upload) is None:
            self.made.leave_unchecked(upload)
        return found

    async def complete(
        self, path: str, upload: str, parts: list[Part], metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> Made:
        """Make an object of an upload, which has its ``metadata`` already. Raises Refused, and errors of the side.

        An upload whose parts are refused is aborted: the next attempt begins another.
        """
        body = documents.completion(parts)
        sent = {"Content-Type": "application/xml", **condition}
        sha256 = hashlib.sha256(body).hexdigest()
        with self.refusals.connecting():
            try:
                answer = await self.service.ask("POST", self.key(path), [("uploadId", upload)], sent, body, sha256)
            except S3Refused as refusal:
                if self.made.learn(refusal) or refusal.code in PARTS_REFUSED:
                    with suppress(DataMoverError):
                        await self.abort_upload(path, upload)
                raise
        with self.refusals.reading(path):
            etag = await self.service.run(documents.completed_of(answer.body))
        self.made.forget(upload)
        return Made(etag, version_in(answer.head))

    async def abort_upload(self, path: str, upload: str) -> None:
        """Remove an upload; do nothing if there is none."""
        with self.refusals.about(path):
            try:
                await self.service.ask("DELETE", self.key(path), [("uploadId", upload)])
            except S3Refused as refusal:
                if refusal.status != 404 or refusal.code == "NoSuchBucket":
                    raise
        self.made.forget(upload)

    async def list_uploads(self, prefix: str, path: str) -> AsyncIterator[Pending]:
        """Yield the unfinished uploads of the keys that begin with ``prefix``, page by page."""
        query = [("uploads", ""), ("prefix", prefix), ("encoding-type", "url")]
        after: tuple[str, str] | None = None
        while True:
            markers = [] if after is None else [("key-marker", after[0]), ("upload-id-marker", after[1])]
            with self.refusals.about(path):
                try:
                    answer = await self.service.ask("GET", "", [*query, *markers])
                except S3Refused as refusal:
                    if refusal.upload_gone:  # rclone answers so if there is none.
                        return
                    raise
            with self.refusals.reading(path):
                page, following = await self.service.run(documents.uploads_of(answer.body))
            for pending in page:
                if pending.key.startswith(prefix):  # Some services ignore it.
                    yield pending
            if following is None or following == after:
                return
            after = following

    async def abort_lost(self, path: str, since: float) -> None:
        async for pending in self.list_uploads(self.key(path), path):
            known = pending.key != self.key(path) or self.made.transfer(pending.upload) is not None
            if not known and await self.began(pending, since):
                await self.abort_upload(path, pending.upload)

    async def began(self, pending: Pending, since: float | None) -> bool:
        """Tell whether an upload was begun with this login after ``since`` (POSIX seconds; None: unknown)."""
        initiated = pending.initiated_at
        if since is None or initiated is None or initiated < since - SKEW or not pending.initiator:
            return False
        return pending.initiator == await self.initiator.get()

    # Below ----------------------------------------------------------------------------------------------------

    def _stored(self, path: str) -> dict[str, str]:
        """Return the headers that say how an object is stored."""
        storing = self._storing
        if is_probe(path):
            # Other classes are paid for by the quarter of a year.
            storing = replace(storing, storage_class=None)
        return {"Content-Type": content_type(path), **storing.headers()}
