"""The headers of an object: those of answers, and those with which it is stored. Pure."""

import re
from dataclasses import dataclass

from datamover.protocols.http.answers import Head
from datamover.protocols.object_store.found import etag_in
from datamover.protocols.object_store.found import found_in as found_of
from datamover.protocols.object_store.seam import FoundObject

PREFIX = "x-amz-meta-"
"""The beginning of the headers of metadata."""

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects are read only once they were restored."""

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


def found_in(path: str, head: Head, *, md5_etags: bool = True) -> FoundObject:
    """Return what the answer to a HEAD or GET tells of the object at ``path``.

    ``md5_etags``: an ETag that looks like an MD5 is one.
    """
    etag, version = etag_in(head), version_in(head)
    md5 = plain_md5(etag, head) if md5_etags else None
    return found_of(path, head, PREFIX, etag, md5, version=version, archived=_is_archived(head))


def _is_archived(head: Head) -> bool:
    """Tell whether an object has to be restored before it is read ("HeadObject", Amazon S3 API Reference)."""
    archived = head.header("x-amz-storage-class") in ARCHIVED or head.header("x-amz-archive-status") is not None
    return archived and 'ongoing-request="false"' not in (head.header("x-amz-restore") or "")


def version_in(head: Head) -> str:
    """Return the id of an object's version, "" if there is none ("null": the bucket has stopped keeping versions)."""
    version = head.header("x-amz-version-id") or ""
    return "" if version == "null" else version


def plain_md5(etag: str, head: Head) -> str | None:
    """Return the ETag if it is the MD5 of the object or part: stored by one PUT, and not encrypted by a KMS key."""
    encryption = head.header("x-amz-server-side-encryption")
    customer = head.header("x-amz-server-side-encryption-customer-algorithm")
    return etag if _MD5.fullmatch(etag) and encryption in (None, "AES256") and customer is None else None
