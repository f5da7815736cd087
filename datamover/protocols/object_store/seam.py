"""What a protocol provides whose uploads are parts: they are stored, listed, made an object of, and removed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from datamover.protocols.http_place.refusals import HttpRefusals
from datamover.protocols.http_place.seam import Found, Resources
from datamover.protocols.object_store.metadata import Metadata
from datamover.protocols.upload import UploadKey


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
class FoundObject(Found):
    """An object that is there."""

    upload: str = ""
    """Which upload it came by (``Token.name``), "" for one that is not ours."""


class ObjectStore(Protocol):
    """The objects below one root, as seen from one side; every path as in ``protocols.place.Place``.

    All raise errors of the side. Those that make an object raise Refused for what the service refuses.
    """

    @property
    def refusals(self) -> HttpRefusals: ...

    @property
    def limits(self) -> PartLimits: ...

    def is_made(self, found: FoundObject, upload: str, kept: Metadata) -> bool:
        """Tell whether an object came by an upload, "" for one PUT, that was to give it the metadata ``kept``.

        What is not known to have come by it is another's.
        """
        ...

    async def head(self, path: str) -> FoundObject | None:
        """Look at an object; None where there is none."""
        ...

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> object:
        """Store a whole object; completes when the service has taken it, its digest checked. Raises Refused."""
        ...

    async def delete(self, path: str) -> None:
        """Remove an object; a missing one is fine."""
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
        """Store the part of that number, from 1; completes when the service has taken it, its digest checked."""
        ...

    async def list_parts(self, path: str, upload: str) -> dict[int, Part] | None:
        """Return the parts of an upload by number, None where it is not there."""
        ...

    async def complete(
        self, path: str, upload: str, parts: list[Part], metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> None:
        """Make an object of the first parts of an upload, with ``metadata``. Raises Refused."""
        ...

    async def abort_upload(self, path: str, upload: str) -> None:
        """Remove an upload that is not completed; a missing one is fine."""
        ...


class StoreResources(ObjectStore, Resources, Protocol):
    """Objects that are read, too."""
