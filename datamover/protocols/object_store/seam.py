"""What a protocol provides whose uploads are parts: they are stored, listed, made an object of, and removed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from datamover.protocols.http_place.refusals import HttpRefusals
from datamover.protocols.http_place.seam import Found, Resources
from datamover.protocols.object_store.metadata import Metadata
from datamover.protocols.upload import UploadKey

_DIGEST = re.compile(r"[0-9a-fA-F]{32}(-[0-9]+)?")

NO_CONDITION: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What one kind of service takes."""

    least: int
    """Bytes that any part but the last must have."""
    largest: int
    """Bytes of a part."""
    most: int
    """Parts of an upload."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the service has."""

    size: int
    etag: str
    """Without quotes."""
    sha256: str = ""
    """Base64; "" where the service does not tell it."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the answer that made an object tells of it; "" for what it does not tell."""

    etag: str = ""
    """Without quotes."""
    version: str = ""

    def is_it(self, etag: str, version: str) -> bool | None:
        """Tell whether an object of that ETag and version is the one that was made, None where they do not tell.

        Services change from one kind of ETag to the other, for the same object: the MD5 of the whole, and that of the
        MD5s of its parts with their number behind it (``rclone serve s3``).
        """
        if self.version and version:
            return self.version == version
        comparable = self.etag and etag and _kind(self.etag) == _kind(etag)
        return self.etag == etag if comparable else None


def _kind(etag: str) -> str | None:
    match = _DIGEST.fullmatch(etag)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class FoundObject(Found):
    """An object that is there."""

    upload: str = ""
    """Which upload it came by (``Token.name``), "" for one that is not ours."""
    etag: str = ""
    """Without quotes."""
    version: str = ""
    """The service's number of it, where it keeps older ones."""
    age: float | None = None
    """Seconds since it was made, by the service's clock."""


class ObjectStore(Protocol):
    """The objects below one root, as seen from one side; every path as in ``protocols.place.Place``.

    All raise errors of the side. Those that make an object raise Refused for what the service refuses.
    """

    @property
    def refusals(self) -> HttpRefusals: ...

    @property
    def limits(self) -> PartLimits: ...

    def is_made(self, found: FoundObject, upload: str, kept: Metadata) -> bool | None:
        """Tell whether an object came by an upload, "" for one PUT, that was to give it the metadata ``kept``.

        None: nothing tells it.
        """
        ...

    async def head(self, path: str) -> FoundObject | None:
        """Inspect an object; None where there is none."""
        ...

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> Made:
        """Store a whole object; completes when the service has taken it, its digest checked. Raises Refused."""
        ...

    async def delete(self, path: str, condition: Mapping[str, str] = NO_CONDITION, *, version: str = "") -> None:
        """Remove an object, or the one ``version`` of it that is named, for good; a missing one is fine.

        With a ``condition``, headers that a service may not heed, it raises Refused.
        """
        ...

    async def beginning(self, name: str) -> list[str]:
        """Return the paths right below the root that begin with ``name``, none where there are very many."""
        ...

    def metadata(self, kept: Metadata) -> Mapping[str, str]:
        """Return the headers that give an object these metadata."""
        ...

    async def begin_upload(self, path: str, key: UploadKey, metadata: Mapping[str, str]) -> str:
        """Begin an upload of an object that is to have ``metadata``; return the service's number of it."""
        ...

    async def abort_lost(self, path: str, since: float) -> None:
        """Remove what ``begin_upload``, called after ``since`` (POSIX seconds), may have made and did not tell of.

        Whatever may be another's stays.
        """
        ...

    async def put_part(self, path: str, upload: str, number: int, data: bytes) -> Part:
        """Store the part of that number, from 1; completes when the service has taken it, its digest checked.

        Cancelling ends it so that it does not arrive any more: see ``bodies.answered``.
        """
        ...

    async def list_parts(self, path: str, upload: str) -> dict[int, Part] | None:
        """Return the parts of an upload by number, None where it is not there."""
        ...

    async def complete(
        self, path: str, upload: str, parts: list[Part], metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> Made:
        """Make an object of the first parts of an upload, with ``metadata``. Raises Refused."""
        ...

    async def abort_upload(self, path: str, upload: str) -> None:
        """Remove an upload that is not completed; a missing one is fine."""
        ...


class StoreResources(ObjectStore, Resources, Protocol):
    """Objects that are read, too."""
