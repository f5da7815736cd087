"""The operations on one container, below a prefix, with the errors of one side."""

import posixpath
from collections.abc import Awaitable, Callable, Mapping

from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.response import Response
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.object_store.found import is_object
from datamover.protocols.object_store.metadata import ObjectMetadata, content_type
from datamover.protocols.object_store.seam import NO_CONDITION, FoundObject, Made, Part
from datamover.protocols.swift import listing, segments
from datamover.protocols.swift.large_objects import LargeObjects
from datamover.protocols.swift.limits import LIMITS
from datamover.protocols.swift.listing import SwiftEntry
from datamover.protocols.swift.objects import PREFIX, SwiftObject, found_in
from datamover.protocols.swift.refusals import SwiftRefusals
from datamover.protocols.swift.service import ACCOUNT, Name, SwiftService
from datamover.protocols.swift.writer import ObjectWriter
from datamover.protocols.upload import UploadKey

_ONLY_NEW = {"If-None-Match": "*"}
_SEGMENTS_LOST = ("not found", "etag mismatch", "size mismatch")
"""The words by which a service refuses a manifest because of its segments."""


class Container:
    """A prefix of a container, with the errors of one side. Every path is below the prefix.

    It is ``http_place.seam.Resources`` and ``object_store.seam.ObjectStore``.
    """

    limits = LIMITS
    serves_ranges = True

    def __init__(
        self,
        service: SwiftService,
        container: str,
        prefix: str,
        refusals: SwiftRefusals,
        writer: ObjectWriter,
        large: LargeObjects,
        conditions: Conditions,
    ) -> None:
        self.refusals = refusals
        self.large = large
        self.service = service
        self._container = container
        self._prefix = prefix
        self._writer = writer
        self._conditions = conditions

    def key(self, path: str) -> str:
        """Return the name of the object at a path."""
        return posixpath.join(self._prefix, path) if path else self._prefix

    def name(self, path: str) -> Name:
        """Return the name of the object at a path, with its container. Raises an error if no service accepts it."""
        key = self.key(path)
        self.refusals.check_name(path, key)
        return Name(self._container, key)

    # Looking and reading --------------------------------------------------------------------------------------

    async def head(self, path: str) -> SwiftObject | None:
        """Inspect an object; None if there is none."""
        with self.refusals.about(path):
            try:
                answer = await self.service.ask("HEAD", self.name(path))
            except Refused as refusal:
                if refusal.status == 404:
                    return None
                if refusal.status == 403:
                    raise self.refusals.unseen(refusal, path) from refusal
                raise
        if not is_object(answer.head):
            raise self.refusals.foreign(path)
        return found_in(path, answer.head)

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect an object, or the directory of the objects below it; None if there is neither."""
        if not path:
            return Inspection("", directory=True)
        found = await self.head(path)
        if found is not None:
            return found.inspection
        with self.refusals.about(path), self.refusals.reading(path):
            prefix = f"{self.name(path).object}/"
            below = await listing.page(self.service, self._container, prefix, most=1)
        return Inspection(posixpath.basename(path), directory=True) if below else None

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        with self.refusals.connecting():
            response = await self.service.get(self.name(path), headers)
        wrong = None if is_object(response.head) else self.refusals.foreign(path)
        if found_in(path, response.head).inspection.directory:
            wrong = self.refusals.directory(path)
        if wrong is not None:
            await response.body.close()
            raise wrong
        return response

    def found(self, path: str, head: Head) -> SwiftObject:
        return found_in(path, head)

    async def entries(self, path: str) -> list[SwiftEntry]:
        """Return the entries directly below a directory."""
        with self.refusals.about(path), self.refusals.reading(path):
            directory = self.name(path).object
            return await listing.every(self.service, self._container, f"{directory}/" if directory else "")

    async def beginning(self, name: str) -> list[str]:
        with self.refusals.about(name), self.refusals.reading(name):
            found = await listing.page(self.service, self._container, self.key(name))
        return [posixpath.basename(entry.name) for entry in found] if len(found) < listing.PAGE else []

    async def free(self) -> int | None:
        """Return the bytes that the quotas of the containers and the account leave, None if there is no quota."""
        containers = {self._container, self.large.container}
        with self.refusals.about(""):
            left = [await self._left("Container", Name(container)) for container in sorted(containers)]
            left.append(await self._left("Account", ACCOUNT))
        return min((each for each in left if each is not None), default=None)

    async def volume(self) -> str:
        """Return the URL of the account if that has a quota, else the URL of the container."""
        with self.refusals.about(""):
            shared = await self._left("Account", ACCOUNT) is not None
            return await self.service.url_of(ACCOUNT if shared else Name(self._container))

    async def _left(self, kind: str, name: Name) -> int | None:
        """Return the bytes that the quota of a container or the account leaves, None if it has none. Raises Refused."""
        try:
            head = (await self.service.ask("HEAD", name)).head
        except Refused as refusal:
            if refusal.status in (403, 404):  # The login may not look, or the container does not exist yet.
                return None
            raise
        quota, used = head.header(f"X-{kind}-Meta-Quota-Bytes"), head.header(f"X-{kind}-Bytes-Used")
        known = quota and used and quota.isdigit() and used.isdigit()
        return max(0, int(quota) - int(used)) if known and quota and used else None

    # Writing --------------------------------------------------------------------------------------------------

    def is_made(self, found: FoundObject, upload: str, kept: ObjectMetadata) -> bool:
        """Compare the upload's name in the metadata."""
        return found.upload == kept.upload

    def metadata(self, kept: ObjectMetadata) -> Mapping[str, str]:
        return kept.headers(PREFIX)

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> Made:
        """Store a whole object. Raises Refused, and errors of the side."""
        name, made = self.name(path), Made()

        async def put(condition: Mapping[str, str]) -> None:
            nonlocal made
            made = Made((await self._writer.put(path, name, data, {**headers, **condition})).etag)

        with self.refusals.connecting(), self.refusals.reading(path):
            if "If-None-Match" in headers:
                await put({})
                return made
            upload = segments.new_upload(headers.get(f"{PREFIX}datamover-upload", "unknown"), name.object)
            if await self._replace(path, name, upload, put):
                await self.large.drop(upload)
        return made

    async def delete(self, path: str, condition: Mapping[str, str] = NO_CONDITION, *, version: str = "") -> None:
        """Remove an object, and its segments if they are ours; do nothing if it is missing. Conditions are ignored."""
        name = self.name(path)
        with self.refusals.about(path), self.refusals.reading(path):
            upload = await self.large.upload_of(name)
            if upload is not None:
                await self.large.remove(name, upload)
                return
            try:
                await self.service.ask("DELETE", name)
            except Refused as refusal:
                if refusal.status != 404:
                    raise

    async def begin_upload(self, path: str, key: UploadKey, metadata: Mapping[str, str]) -> str:
        """Return the directory of a new upload's segments; no request is sent."""
        return segments.new_upload(key, self.name(path).object)

    async def abort_lost(self, path: str, since: float) -> None:
        """Do nothing: the upload's id is made here, so it cannot be lost."""

    async def put_part(self, path: str, upload: str, number: int, data: bytes) -> Part:
        with self.refusals.about(path):
            return await self.large.put(path, upload, number, data)

    async def list_parts(self, path: str, upload: str) -> dict[int, Part]:
        with self.refusals.about(path), self.refusals.reading(path):
            return await self.large.parts(upload)

    async def complete(
        self, path: str, upload: str, parts: list[Part], metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> Made:
        """Make a large object of an upload's first segments, and a plain one of that if it is small enough.

        The large one takes the name first, since a copy cannot be conditional. Raises Refused, and errors of the side.
        """
        name, size = self.name(path), sum(part.size for part in parts)
        headers = {**metadata, "Content-Type": content_type(path)}

        async def make(condition: Mapping[str, str]) -> None:
            told = {**headers, **condition}
            if not size:  # No large object is empty.
                await self._writer.put(path, name, b"", told)
                return
            try:
                await self.large.make(path, name, upload, parts, told)
            except Refused as refusal:
                lost = refusal.status == 400 and any(each in refusal.said.lower() for each in _SEGMENTS_LOST)
                lost = lost or refusal.status == 404  # Of Ceph's gateway; the container exists by now.
                raise self.refusals.gone(path) if lost else refusal from None

        with self.refusals.connecting(), self.refusals.reading(path):
            if "If-None-Match" in condition:
                await make(condition)
            else:
                await self._replace(path, name, upload, make)
            if not size:
                await self.large.drop(upload)
            else:
                await self.large.flatten(path, name, upload, parts, headers)
        return Made()

    async def abort_upload(self, path: str, upload: str) -> None:
        """Remove an upload's segments, except those that the object is made of."""
        name = self.name(path)
        with self.refusals.about(path), self.refusals.reading(path):
            current = await self.large.upload_of(name)
            replaced = await self.large.noted(upload)
            if replaced is not None and replaced != current and segments.is_of(replaced, name.object):
                await self.large.drop(replaced)
            if current != upload:
                await self.large.drop(upload)
            else:
                await self.large.settle(path, name, upload)

    async def uploads(self, transfer: str) -> list[str]:
        """Return the uploads of a transfer that have segments."""
        with self.refusals.about(""), self.refusals.reading(""):
            return await self.large.uploads(transfer)

    async def _replace(
        self, path: str, name: Name, upload: str, make: Callable[[Mapping[str, str]], Awaitable[None]]
    ) -> bool:
        """Make an object in place of any other, and remove that one's segments if they are ours.

        Usually there is no other, and one conditional request is enough, unless the service ignores conditions (as
        Ceph's gateway does). Returns whether there were segments to remove.
        """
        await self._conditions.ready(self)
        if self._conditions.honoured:
            try:
                await make(_ONLY_NEW)
            except Refused as refusal:
                if refusal.status != 412:
                    raise
            else:
                return False
        replaced = await self.large.upload_of(name, file=path)
        if replaced == upload:  # A commit was interrupted after it had made the object.
            replaced = await self.large.noted(upload)
        else:
            if replaced is not None:
                await self.large.note(path, upload, replaced)
            await make({})
        if replaced is not None:
            await self.large.drop(replaced)
        return replaced is not None
