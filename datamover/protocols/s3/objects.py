"""What an object's headers tell of it, and what is told of one that is written. Pure."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import PARTIAL, Head, content_range
from datamover.protocols.http.dates import http_date
from datamover.protocols.object_store.metadata import Metadata
from datamover.protocols.object_store.seam import FoundObject

PREFIX = "x-amz-meta-"
"""What the names of metadata begin with."""

_MD5 = re.compile(r"[0-9a-f]{32}")


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
    own = Metadata.of(head, PREFIX)
    identity = f"{etag} {changed} {head.header(f'{PREFIX}mtime') or ''}".rstrip() if etag else None
    modified = http_date(changed) if own.modified is None else own.modified
    inspection = Inspection(posixpath.basename(path), size, identity, modified, _digests(head, etag, own))
    condition = {"If-Match": f'"{etag}"'} if etag else {}
    return FoundObject(inspection, condition, own.upload)


def plain_md5(etag: str, head: Head) -> str | None:
    """Return the ETag where it is the MD5 of the object or part: one PUT, not encrypted by a key of its own."""
    encryption = head.header("x-amz-server-side-encryption")
    customer = head.header("x-amz-server-side-encryption-customer-algorithm")
    return etag if _MD5.fullmatch(etag) and encryption in (None, "AES256") and customer is None else None


def _digests(head: Head, etag: str, own: Metadata) -> Mapping[str, str]:
    told = {"sha256": own.sha256, "md5": plain_md5(etag, head)}
    return {algorithm: value for algorithm, value in told.items() if value is not None}
