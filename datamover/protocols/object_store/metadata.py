"""What is stored of a file in its object's metadata: its time, its digest, and the upload that made it. Pure."""

import math
import re
from dataclasses import dataclass
from mimetypes import guess_type

from datamover.protocols.http.answers import Head

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
"""The types of files that are compressed, whatever is in them."""


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """The metadata of one file."""

    upload: str = ""
    """``Token.name``; "" for an object that is not ours."""
    modified: float | None = None
    """POSIX seconds."""
    sha256: str | None = None
    """Of the whole file, hex."""

    def headers(self, prefix: str) -> dict[str, str]:
        """Return them as headers, whose names begin with the service's ``prefix`` for metadata."""
        told = {f"{prefix}datamover-upload": self.upload}
        if self.modified is not None:
            # The name that rclone and s3fs use.
            told[f"{prefix}mtime"] = f"{self.modified:.9f}".rstrip("0").rstrip(".")
        if self.sha256 is not None:
            told[f"{prefix}datamover-sha256"] = self.sha256
        return told

    @classmethod
    def of(cls, head: Head, prefix: str) -> "ObjectMetadata":
        """Return the metadata in the headers of an answer."""
        sha256 = head.header(f"{prefix}datamover-sha256") or ""
        return cls(
            head.header(f"{prefix}datamover-upload") or "",
            _seconds(head.header(f"{prefix}mtime")),
            sha256 if _SHA256.fullmatch(sha256) else None,
        )


def content_type(path: str) -> str:
    """Return the type that an object is stored with, as its name tells it."""
    told, coding = guess_type(path)
    return _CODED.get(coding or "", (None if coding else told) or "application/octet-stream")


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and abs(seconds) < 2**53 else None
