"""What an object's headers tell of it, and what is told of one that is written. Pure."""

import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import PARTIAL, Head, content_range
from datamover.protocols.http.dates import http_date
from datamover.protocols.object_store.seam import FoundObject

MODIFIED = "x-amz-meta-mtime"
"""POSIX seconds in decimal; rclone's and s3fs's name for it."""
SHA256 = "x-amz-meta-datamover-sha256"
"""The digest of the whole file, hex."""
UPLOAD = "x-amz-meta-datamover-upload"
"""Which upload an object came by: tells a commit whose answer was lost."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Storing:
    """How objects are stored."""

    storage_class: str | None = None
    encryption: str | None = None
    encryption_key_id: str | None = None

    def headers(self) -> dict[str, str]:
        told = {
            "x-amz-storage-class": self.storage_class,
            "x-amz-server-side-encryption": self.encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.encryption_key_id,
        }
        return {name: value for name, value in told.items() if value is not None}


def found_in(path: str, head: Head) -> FoundObject:
    """Return what the answer to a HEAD or GET tells of the object at ``path``."""
    etag = (head.header("ETag") or "").removeprefix("W/").strip('"')
    changed = (head.header("Last-Modified") or "").strip()
    part = content_range(head)  # rclone sends one with status 200.
    size = part.total if part is not None else head.length if head.status != PARTIAL else None
    own = head.header(MODIFIED)
    identity = f"{etag} {changed} {own or ''}".rstrip() if etag else None
    modified = _seconds(own)
    if modified is None:
        modified = http_date(changed)
    inspection = Inspection(posixpath.basename(path), size, identity, modified, _digests(head, etag))
    condition = {"If-Match": f'"{etag}"'} if etag else {}
    return FoundObject(inspection, condition, head.header(UPLOAD) or "")


def metadata(upload: str, modified: float | None, sha256: str | None = None) -> Mapping[str, str]:
    """Return the headers that keep a file's time (POSIX seconds), its digest, and by which upload it came."""
    told = {UPLOAD: upload}
    if modified is not None:
        told[MODIFIED] = f"{modified:.9f}".rstrip("0").rstrip(".")
    if sha256 is not None:
        told[SHA256] = sha256
    return told


def plain_md5(etag: str, head: Head) -> str | None:
    """Return the ETag where it is the MD5 of the object or part: one PUT, not encrypted by a key of its own."""
    encryption = head.header("x-amz-server-side-encryption")
    customer = head.header("x-amz-server-side-encryption-customer-algorithm")
    return etag if _MD5.fullmatch(etag) and encryption in (None, "AES256") and customer is None else None


def _digests(head: Head, etag: str) -> Mapping[str, str]:
    digests = {}
    own = head.header(SHA256)
    if own is not None and _SHA256.fullmatch(own):
        digests["sha256"] = own
    md5 = plain_md5(etag, head)
    if md5 is not None:
        digests["md5"] = md5
    return digests


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and abs(seconds) < 2**53 else None
