"""The operations on the files below one collection, with the errors of one side."""

import hashlib
import posixpath
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from datamover.errors import ConnectionLost, DataMoverError, Stalled
from datamover.protocols.base import Ability, Inspection
from datamover.protocols.dav.address import segments_of
from datamover.protocols.dav.documents import FILE, NAMES, ROOM, Member, MultistatusParser
from datamover.protocols.dav.looks import DavLook, Members, if_tagged, look_in, look_of, tag_told, time_header
from datamover.protocols.dav.refusals import TOO_LONG, DavRefusals, is_long
from datamover.protocols.dav.service import (
    BROKEN,
    PATIENCE,
    PAUSE,
    PAUSES,
    DavRefused,
    DavService,
    Learnt,
    answer_lost,
)
from datamover.protocols.dav.sink import FedBody
from datamover.protocols.http.answers import REDIRECTS
from datamover.protocols.http.content import WholeAnswer
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.slices import converted, in_order
from datamover.web.url import WebUrl

T = TypeVar("T")

LENGTH_REQUIRED = 411
EXPECTATION_FAILED = 417
DIRECTORIES = 10_000
"""Directories that are remembered to be there."""
_UNKNOWN_METHOD = (405, 501)
_NO_PARENT = (404, 409)
"""With these, servers refuse a file in a directory that is not there."""
_NO_DIRECTORY = frozenset({400, 403, 405, 409, 500})
"""The statuses by which servers refuse a path that leads through a file."""
_MISREAD = frozenset({400, 502})
"""The statuses by which servers refuse a Destination that seems to be on another server."""
MAYBE_A_DIRECTORY = frozenset({403, 405, 501, *REDIRECTS})
"""The statuses by which servers refuse a GET of a directory."""


class DavFiles:
    """The files below one collection, with the errors of one side. Paths are as in ``protocols.place.Place``."""

    def __init__(self, service: DavService, refusals: DavRefusals, learnt: Learnt) -> None:
        self.service = service
        self.refusals = refusals
        self.learnt = learnt

    # Looking --------------------------------------------------------------------------------------------------

    async def look(self, path: str) -> DavLook | None:
        """Inspect a path; None if nothing is there."""
        with self.refusals.about(path), self.refusals.reading(path):
            try:
                found = await self._look(path)
            except DavRefused as refusal:
                if await self._is_nothing(path, refusal):
                    return None
                raise
        if not found.collection:
            self.learnt.tagged = bool(found.etag)
        return found

    async def inspect(self, path: str) -> Inspection | None:
        found = await self.look(path)
        return None if found is None else found.inspection(path)

    async def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; an empty list if there is no directory."""
        return await self.service.run(in_order(await self.members(path, NAMES)))

    async def members(self, path: str, properties: bytes = FILE) -> Mapping[str, DavLook]:
        """Return the members of a directory by name, with the requested ``properties``; {} if there is no directory."""
        if not self.learnt.finds:
            raise self.refusals.unusable(path, "cannot be listed: the server does not support PROPFIND")
        url = self.service.address.url(path, collection=True)
        found = Members(segments_of(url.path))
        with self.refusals.about(path), self.refusals.reading(path):
            try:
                await self.service.find(url, 1, properties, MultistatusParser(found.take))
            except DavRefused as refusal:
                there = None if refusal.missing else await self.look(path)
                if there is None or not there.collection:
                    return {}
                raise

        def check(name: str) -> None:
            if name in (".", "..") or "/" in name or "\0" in name:
                raise self.refusals.unusable(path, f"holds a name that no path can have, {name!r}: rename it")

        members = found.by_name()
        await self.service.run(converted(members, check))
        return members

    async def room(self) -> int | None:
        """Return how many bytes may still be written below the root, None if the server does not report it.

        If the root does not exist yet, the nearest collection above it is asked.
        """
        found: list[Member] = []
        address = self.service.address
        with self.refusals.about(""), self.refusals.reading(""):
            while True:
                url = address.url("", collection=True)
                try:
                    await self.service.find(url, 0, ROOM, MultistatusParser(found.append))
                    break
                except DavRefused as refusal:
                    if not refusal.missing and refusal.status not in _UNKNOWN_METHOD:
                        raise
                    if not refusal.missing or not address.root.path:
                        return None
                address = address.sibling(address.root.path.rpartition("/")[0])
        told = found[0].props.get("quota-available-bytes", "") if found else ""
        # Nextcloud returns negative numbers for "no limit" and "unknown".
        return int(told) if told.isascii() and told.isdigit() else None

    # Changing -------------------------------------------------------------------------------------------------

    async def put(self, path: str, data: bytes, modified: float | None, target: str = "") -> str:
        """Store a small file, making its directory; errors name ``target``. Return the answer's ETag, or ""."""
        headers = time_header(modified)
        if self.learnt.checksums:
            headers["OC-Checksum"] = f"SHA1:{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
        with self.refusals.about(target or path):
            url = self.service.address.url(path)
            answer = await self._into(path, lambda: self.service.ask("PUT", url, headers, data), _NO_PARENT)
        return tag_told(answer.head)

    async def stream(self, path: str, body: FedBody, modified: float | None, target: str) -> None:
        """Store a file as its body is fed; its directory is made. Errors name the file ``target``.

        If the answer is lost after everything was sent, as by a proxy that does not wait until a large file is stored,
        this waits until the file is there.
        """
        url, headers = self.service.address.url(path), time_header(modified)

        async def attempt() -> None:
            expecting = {**headers, "Expect": "100-continue"} if self.learnt.expects else headers
            try:
                await self.service.ask("PUT", url, expecting, body)
            except DavRefused as refusal:
                if refusal.status == LENGTH_REQUIRED:
                    raise self.refusals.early(path, measured=False) from refusal
                if refusal.status != EXPECTATION_FAILED or body.begun:
                    raise
                self.learnt.expects = False
                await self.service.ask("PUT", url, headers, body)

        with self.refusals.about(target):
            try:
                await self._into(path, attempt, _NO_PARENT, body)
            except (DavRefused, ConnectionLost, Stalled) as error:
                nowhere = isinstance(error, DavRefused) and error.status in _NO_PARENT and body.begun
                if nowhere and await self.look(posixpath.dirname(path)) is None:
                    raise self.refusals.undirected(target) from error
                if body.size is None or not answer_lost(error) or not await self._is_stored(path, body.size, error):
                    raise

    async def move(self, source: str, target: str, condition: Mapping[str, str]) -> str:
        """Rename a file, making the new directory, on a condition of ``object_store.conditions``.

        Return the answer's ETag, "" if it has none. Raises Refused, and errors of the side.
        """
        return await self.move_url(self.service.address.url(source), target, condition)

    async def move_url(self, source: WebUrl, target: str, headers: Mapping[str, str]) -> str:
        """Move what is at a URL of the server to ``target``, like ``move``, with headers such as a condition."""
        with self.refusals.connecting():
            return tag_told((await self._into(target, lambda: self._move(source, target, headers), (409,))).head)

    async def _move(self, source: WebUrl, target: str, headers: Mapping[str, str]) -> WholeAnswer:
        sent = {**headers, "Overwrite": "T"}
        if sent.pop("If-None-Match", None):  # MOVE says that by Overwrite (RFC 4918 10.6).
            sent["Overwrite"] = "F"
        forms, misread = self.destinations(target), None
        for number in sorted(range(len(forms)), key=lambda each: each != self.learnt.destination):
            try:
                answer = await self.service.ask("MOVE", source, {**sent, "Destination": forms[number]})
            except DavRefused as refusal:
                if refusal.status in _MISREAD:
                    misread = misread or refusal
                    continue
                if refusal.status == 412:
                    self.learnt.destination = number
                raise
            self.learnt.destination = number
            return answer
        assert misread is not None
        raise misread

    def destinations(self, path: str) -> tuple[str, ...]:
        """Return the possible forms of a path's Destination, by ``Learnt.destination``."""
        return (self.learnt.inner or self.service.address).destinations(path)

    def unchanged(self, path: str, found: DavLook) -> Mapping[str, str]:
        """Return the condition that a file is unchanged since it was found; empty if the server supports none.

        It names the file by its path and the ETag as a strong one, which all servers read that honour such conditions.
        """
        return self.as_found(path, found) if self.learnt.conditional else {}

    def as_found(self, path: str, found: DavLook) -> Mapping[str, str]:
        """Return the header that makes a request fail if a file has changed; empty if its ETag is unknown."""
        return if_tagged(self.service.address.url(path), found.etag) if found.etag else {}

    async def delete(self, path: str, *, collection: bool = False) -> None:
        """Remove a file, or a directory with all that is in it; do nothing if it is missing."""
        with self.refusals.about(path):
            try:
                await self.service.ask("DELETE", self.service.address.url(path, collection=collection))
            except DavRefused as refusal:
                if not refusal.missing:
                    raise

    async def make_directory(self, path: str) -> None:
        """Make a directory and those above it, up to the root."""
        if path in self.learnt.directories:
            return
        found = await self.look(path)
        if found is None:
            if path:
                await self.make_directory(posixpath.dirname(path))
            found = await self._make_one(path)
        if not found.collection:
            raise self.refusals.file_in_the_way(path)
        self.learnt.directories[path] = None
        if len(self.learnt.directories) > DIRECTORIES:
            del self.learnt.directories[next(iter(self.learnt.directories))]

    # Below ----------------------------------------------------------------------------------------------------

    async def _look(self, path: str) -> DavLook:
        if not self.learnt.finds:
            return await self._head(path)
        try:
            return await self._find(path)
        except DavRefused as refusal:
            if refusal.status not in _UNKNOWN_METHOD:
                raise
            found = await self._head(path)
            self.learnt.finds = False
            self.learnt.lacks.learn(Ability.LIST, f"the server does not support PROPFIND ({refusal.status})")
            return found

    async def _is_nothing(self, path: str, refusal: DavRefused) -> bool:
        """Tell whether a refusal means that nothing is there: not all servers answer 404."""
        if refusal.missing or (refusal.status in TOO_LONG and is_long(path)):
            return True
        if refusal.status not in _NO_DIRECTORY or not path:
            return False
        above = await self.look(posixpath.dirname(path))
        return above is None or not above.collection

    async def _find(self, path: str) -> DavLook:
        url, pause = self.service.address.url(path, collection=not path), PAUSES[0]
        while True:
            found: list[Member] = []
            head = await self.service.find(url, 0, FILE, MultistatusParser(found.append))
            if not found:
                raise Unreadable("it describes no resource")
            if found[0].processed:
                break
            if pause > PAUSES[1]:
                raise self.refusals.unprocessed(path)
            await self.service.wait(pause)
            pause *= 2
        if found[0].status is not None and found[0].status >= 300:
            raise DavRefused(head, inside=found[0].status)
        looked = look_of(found[0])
        self.learnt.checksums = self.learnt.checksums or bool(looked.digests)
        return looked

    async def _head(self, path: str) -> DavLook:
        if path:
            try:
                return look_in((await self.service.ask("HEAD", self.service.address.url(path))).head)
            except DavRefused as refusal:
                if refusal.status not in MAYBE_A_DIRECTORY:
                    raise
        await self.service.ask("HEAD", self.service.address.url(path, collection=True))
        return DavLook(collection=True)

    async def _into(
        self,
        path: str,
        attempt: Callable[[], Awaitable[T]],
        nowhere: tuple[int, ...],
        body: FedBody | None = None,
    ) -> T:
        """Make the directory of ``path`` and attempt something; once more if the directory has vanished."""
        directory = posixpath.dirname(path)
        await self.make_directory(directory)
        try:
            return await attempt()
        except DavRefused as refusal:
            if refusal.status == 500:
                await self._clear(path)
            if refusal.status not in nowhere:
                raise
            self.learnt.directories.clear()
            if body is not None and body.begun:
                raise
        await self.make_directory(directory)
        return await attempt()

    async def _is_stored(self, path: str, size: int, error: Exception) -> bool:
        """Wait for a file of ``size`` bytes whose answer was lost; tell whether it came."""
        until = self.service.seconds() + (BROKEN if isinstance(error, ConnectionLost) else PATIENCE)
        pause = PAUSES[0]
        while True:
            with suppress(DataMoverError):  # The server, or a proxy before it, may be down meanwhile.
                found = await self.look(path)
                if found is not None and found.size == size:
                    return True
            if self.service.seconds() >= until:
                return False
            await self.service.wait(pause)
            pause = min(pause * 2, PAUSE)

    async def _clear(self, path: str) -> None:
        """Remove the file NAME.0000000001, which nginx leaves when its disk is full."""
        directory, name = posixpath.split(path)
        with suppress(DataMoverError):
            for left in await self.names(directory):
                if left.startswith(f"{name}.") and re.fullmatch(r"\d{10,}", left.removeprefix(f"{name}.")):
                    await self.delete(posixpath.join(directory, left))

    async def _make_one(self, path: str) -> DavLook:
        with self.refusals.about(path):
            try:
                await self.service.ask("MKCOL", self.service.address.url(path, collection=True))
            except DavRefused as refusal:
                found = await self.look(path)  # Somebody else may have made it.
                if found is not None:
                    return found
                # 405 says that it exists (RFC 4918 9.3.1), even if HEAD of a directory is refused.
                if refusal.status != 405:
                    raise self.refusals.unmakeable(path, refusal) from refusal
        return DavLook(collection=True)
