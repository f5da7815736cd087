"""The interface that a protocol implements to have its uploads made of parts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from datamover.protocols.http_place.refusals import HttpRefusals
from datamover.protocols.http_place.seam import Found, Resources
from datamover.protocols.object_store.limits import PartLimits
from datamover.protocols.object_store.metadata import ObjectMetadata
from datamover.protocols.upload import UploadKey

_DIGEST = re.compile(r"[0-9a-fA-F]{32}(-[0-9]+)?")

NO_CONDITION: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the service has."""

    size: int
    etag: str
    """Without quotes."""
    sha256: str = ""
    """Base64; "" if the service does not report it."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the answer to a PUT or a completion says of the object; "" for what it does not say."""

    etag: str = ""
    """Without quotes."""
    version: str = ""

    def is_it(self, etag: str, version: str) -> bool | None:
        """Tell whether an object with this ETag and version is the one that was made, None if they do not show it.

        Some services report two kinds of ETags for one object: the MD5 of the whole, and the MD5 of its parts' MD5s
        with their number (``rclone serve s3``).
        """
        if self.version and version:
            return self.version == version
        comparable = self.etag and etag and _kind(self.etag) == _kind(etag)
        return self.etag.lower() == etag.lower() if comparable else None


def _kind(etag: str) -> str | None:
    match = _DIGEST.fullmatch(etag)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class FoundObject(Found):
    """An object that exists."""

    upload: str = ""
    """The upload that made it (``Token.name``), "" if it is not ours."""
    etag: str = ""
    """Without quotes."""
    version: str = ""
    """The id of its version, if the service keeps versions."""
    age: float | None = None
    """Seconds since it was made, by the service's clock."""


class ObjectStore(Protocol):
    """The objects below one root; paths are as in ``protocols.place.Place``.

    The methods raise errors of one side; those that make an object raise Refused if the service refuses it.
    """

    @property
    def refusals(self) -> HttpRefusals: ...

    @property
    def limits(self) -> PartLimits: ...

    def is_made(self, found: FoundObject, upload: str, kept: ObjectMetadata) -> bool | None:
        """Tell whether an object was made by ``upload`` ("": by one PUT), which gave it the metadata ``kept``.

        None: the service does not show it.
        """
        ...

    async def head(self, path: str) -> FoundObject | None:
        """Inspect an object; None if there is none."""
        ...

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> Made:
        """Store a whole object; completes when the service has stored it and checked its digest. Raises Refused."""
        ...

    async def delete(self, path: str, condition: Mapping[str, str] = NO_CONDITION, *, version: str = "") -> None:
        """Remove an object, or with ``version`` that version of it, for good; do nothing if it is missing.

        ``condition`` are headers, which a service may ignore; if it does not, Refused is raised unless they hold.
        """
        ...

    async def beginning(self, name: str) -> list[str]:
        """Return the paths directly below the root that begin with ``name``, an empty list if there are very many."""
        ...

    def metadata(self, kept: ObjectMetadata) -> Mapping[str, str]:
        """Return the headers by which an object gets these metadata."""
        ...

    async def begin_upload(self, path: str, key: UploadKey, metadata: Mapping[str, str]) -> str:
        """Begin an upload of an object that is to have ``metadata``; return the service's id of it."""
        ...

    async def abort_lost(self, path: str, since: float) -> None:
        """Remove an upload whose id was lost: ``begin_upload``, called after ``since`` (POSIX seconds), failed.

        Uploads that may be somebody else's are not removed.
        """
        ...

    async def put_part(self, path: str, upload: str, number: int, data: bytes) -> Part:
        """Store a part, numbered from 1; completes when the service has stored it and checked its digest.

        After cancelling, it cannot arrive any more (``bodies.answered``).
        """
        ...

    async def list_parts(self, path: str, upload: str) -> dict[int, Part] | None:
        """Return the parts of an upload by number, None if there is no such upload."""
        ...

    async def complete(
        self, path: str, upload: str, parts: list[Part], metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> Made:
        """Make an object of the first parts of an upload, with ``metadata``. Raises Refused."""
        ...

    async def abort_upload(self, path: str, upload: str) -> None:
        """Remove an upload that is not completed; do nothing if there is none."""
        ...


class StoreResources(ObjectStore, Resources, Protocol):
    """Objects that can be written and read."""
