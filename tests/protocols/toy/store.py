"""The service that the protocol "toy" speaks to: objects, multipart uploads, conditional commits, listings.

It behaves as object stores do: keys are not directories, an object is replaced whole, a part is of a least size but
for the last one, and what was uploaded in parts cannot be read before the upload is completed.
"""

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property

from twisted.internet import reactor
from twisted.internet.task import deferLater

LEAST = 2**18
"""Bytes that any part but the last must have."""


class Refused(Exception):
    """The service refuses a request: ``code`` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Object:
    """One object."""

    data: bytes
    modified: float | None

    @cached_property
    def digest(self) -> str:
        """sha256, hex: what the service tells of the content."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(slots=True)
class Multipart:
    """An upload that is not completed."""

    key: str
    modified: float | None
    parts: dict[int, bytes] = field(default_factory=dict)


Fault = Callable[[str, str], Awaitable[None]]
"""Called with the name of a request and its key; may raise, or take its time."""


async def _nothing(request: str, key: str) -> None:
    """Nothing breaks."""


class ObjectStore:
    """One bucket; what a test replaces of it breaks: every request passes ``before`` first and ``after`` at its end."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, Multipart] = {}
        self.keys: dict[str, str] = {}
        """Access key -> secret; none: anybody may come."""
        self.before: Fault = _nothing
        self.after: Fault = _nothing
        """What raises here, loses the answer."""
        self.keep: Callable[[bytes], bytes] = lambda data: data
        """What is kept of the bytes of an object."""
        self.requests: list[str] = []
        """What was asked for, in order."""
        self.sent = 0
        """Bytes of parts that came."""
        self._numbers = itertools.count(1)

    async def log_in(self, key: str, secret: str) -> None:
        await self._pass("log in", key)
        if self.keys and self.keys.get(key) != secret:
            raise Refused("AccessDenied")

    async def head(self, key: str) -> Object | None:
        await self._pass("head", key)
        return self.objects.get(key)

    async def get(self, key: str, start: int, size: int) -> bytes:
        await self._pass("get", key)
        if key not in self.objects:
            raise Refused("NoSuchKey")
        return self.objects[key].data[start : start + size]

    async def put(self, key: str, data: bytes, modified: float | None, *, if_none_match: bool) -> None:
        await self._pass("put", key)
        self._take(key, Object(self.keep(data), modified), if_none_match)
        await self.after("put", key)

    async def delete(self, key: str) -> None:
        await self._pass("delete", key)
        self.objects.pop(key, None)

    async def list_objects(self, prefix: str) -> list[str]:
        await self._pass("list", prefix)
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def create_multipart(self, key: str, modified: float | None) -> str:
        await self._pass("create", key)
        number = f"upload-{next(self._numbers)}"
        self.uploads[number] = Multipart(key, modified)
        return number

    async def put_part(self, upload: str, number: int, data: bytes) -> str:
        """Take one part; return its sha256."""
        await self._pass("part", upload)
        self._upload(upload).parts[number] = data
        self.sent += len(data)
        return hashlib.sha256(data).hexdigest()

    async def list_parts(self, upload: str) -> list[str]:
        """Return the sha256 of each part, in order."""
        await self._pass("parts", upload)
        parts = self._upload(upload).parts
        return [hashlib.sha256(parts[number]).hexdigest() for number in sorted(parts)]

    async def complete(self, upload: str, digests: list[str], *, if_none_match: bool) -> None:
        await self._pass("complete", upload)
        multipart = self._upload(upload)
        parts = [multipart.parts[number] for number in range(len(digests))]
        if [hashlib.sha256(part).hexdigest() for part in parts] != digests:
            raise Refused("InvalidPart")
        if any(len(part) < LEAST for part in parts[:-1]):
            raise Refused("EntityTooSmall")
        self._take(multipart.key, Object(self.keep(b"".join(parts)), multipart.modified), if_none_match)
        del self.uploads[upload]
        await self.after("complete", upload)

    async def abort_multipart(self, upload: str) -> None:
        await self._pass("abort", upload)
        self._upload(upload)
        del self.uploads[upload]

    async def list_uploads(self, key: str) -> list[str]:
        """Return the uploads of one key that are not completed."""
        await self._pass("uploads", key)
        return [number for number, multipart in self.uploads.items() if multipart.key == key]

    def _take(self, key: str, taken: Object, if_none_match: bool) -> None:
        if if_none_match and key in self.objects:
            raise Refused("PreconditionFailed")
        self.objects[key] = taken

    def _upload(self, upload: str) -> Multipart:
        if upload not in self.uploads:
            raise Refused("NoSuchUpload")
        return self.uploads[upload]

    async def _pass(self, request: str, key: str) -> None:
        self.requests.append(request)
        await deferLater(reactor, 0)
        await self.before(request, key)


STORES: dict[str, ObjectStore] = {}
"""The services of this process, by the host in their URL."""
