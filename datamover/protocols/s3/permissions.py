"""The permission that a request needs. Pure.

Source: "Required permissions for Amazon S3 API operations", Amazon S3 User Guide.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission, and what is forbidden without it."""

    verb: str
    """For messages, such as "read"."""
    name: str


_READ = Permission("read", "s3:GetObject")
_WRITTEN = Permission("written", "s3:PutObject")
_REMOVED = Permission("removed", "s3:DeleteObject")
_LISTED = Permission("listed", "s3:ListBucket")
# Requests that have this name in their query.
_OF = {
    ("GET", "list-type"): _LISTED,
    ("GET", "uploads"): Permission("listed", "s3:ListBucketMultipartUploads"),
    ("GET", "uploadId"): Permission("looked at", "s3:ListMultipartUploadParts"),
    ("DELETE", "uploadId"): Permission("cleaned up", "s3:AbortMultipartUpload"),
    ("DELETE", "versionId"): Permission("removed", "s3:DeleteObjectVersion"),
}
_ELSE = {"GET": _READ, "HEAD": _READ, "DELETE": _REMOVED}


def permission(method: str, query: Iterable[tuple[str, str]]) -> Permission:
    """Return the permission for a request with that query."""
    asked = (_OF.get((method, name)) for name, _ in query)
    return next((each for each in asked if each is not None), _ELSE.get(method, _WRITTEN))
