"""What an upload in parts is gone on with from, in any process."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from datamover.protocols.object_store.seam import Part


@dataclass(frozen=True, slots=True)
class Token:
    """Which upload it is, and which of its parts count."""

    transfer: str
    content: str
    """These two are the ``UploadKey``'s."""
    upload: str = ""
    """The service's number; "": it is not begun."""
    parts: int = 0
    digest: str = ""
    modified: float | None = None
    """The time that the object is to have, in POSIX seconds."""
    sha256: str | None = None
    """The digest of the whole file, in hex, where it was known before."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))

    @property
    def name(self) -> str:
        """What the object tells of the upload it came by."""
        return f"{self.transfer}-{self.content}"

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def digest(parts: Iterable[Part]) -> str:
    """Return what stands for these parts: equal only for parts of the same sizes and ETags, in order."""
    return hashlib.sha256("\n".join(f"{part.size} {part.etag}" for part in parts).encode()).hexdigest()
