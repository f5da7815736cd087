"""The token of an upload in parts, from which any process can resume it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from datamover.protocols.object_store.seam import Part


@dataclass(frozen=True, slots=True)
class Token:
    """Identifies an upload, and the parts that were saved."""

    transfer: str
    content: str
    """These two are the ``UploadKey``."""
    upload: str = ""
    """The service's id; "": it was not begun."""
    parts: int = 0
    digest: str = ""
    modified: float | None = None
    """The time that the object is to have, in POSIX seconds."""
    sha256: str | None = None
    """The digest of the whole file, in hex, if it was known when the upload began."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))

    @property
    def name(self) -> str:
        """The name of the upload in the object's metadata."""
        return f"{self.transfer}-{self.content}"

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def digest(parts: Iterable[Part]) -> str:
    """Return a digest over the sizes, ETags and checksums of these parts, in order."""
    told = (f"{part.size} {part.etag} {part.sha256}".rstrip() for part in parts)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
