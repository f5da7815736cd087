"""What the head of an answer says of an object, for all services alike. Pure."""

import posixpath

from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import PARTIAL, Head, content_range, tells_total
from datamover.protocols.http.dates import http_date
from datamover.protocols.object_store.metadata import ObjectMetadata
from datamover.protocols.object_store.seam import FoundObject


def found_in(
    path: str,
    head: Head,
    prefix: str,
    etag: str,
    md5: str | None,
    *,
    version: str = "",
    directory: bool = False,
    archived: bool = False,
) -> FoundObject:
    """Return what an answer tells of the object at ``path``, whose metadata begin with ``prefix``.

    ``etag`` and ``version`` are without quotes, "" for none; ``md5`` is the ETag where that is the MD5 of the object,
    in hex. ``directory``: the object stands for one.
    """
    name = posixpath.basename(path)
    own = ObjectMetadata.of(head, prefix)
    if directory:
        return FoundObject(Inspection(name, directory=True), upload=own.upload)
    changed = (head.header("Last-Modified") or "").strip()
    part = content_range(head)  # Some services send one with status 200.
    whole = head.length if head.status < PARTIAL else 0 if tells_total(head, 0) else None
    size = part.total if part is not None else whole
    identity = f"{etag} {changed} {head.header(f'{prefix}mtime') or ''}".rstrip() if etag else None
    modified = http_date(changed) if own.modified is None else own.modified
    told = {"sha256": own.sha256, "md5": md5}
    digests = {algorithm: value for algorithm, value in told.items() if value is not None}
    condition = {"If-Match": f'"{etag}"'} if etag else {}
    now, made = http_date(head.header("Date")), http_date(changed)
    age = now - made if now is not None and made is not None else None
    inspection = Inspection(name, size, identity, modified, digests, archived=archived)
    return FoundObject(inspection, condition, own.upload, etag, version, age)


def is_object(head: Head) -> bool:
    """Tell whether an object store can have given this answer to a HEAD or GET of an object.

    All tell its ETag and its time; a page by which a network asks for a login mostly has neither.
    """
    return bool(head.header("ETag") or head.header("Last-Modified"))


def etag_in(head: Head) -> str:
    """Return an answer's ETag without quotes."""
    return (head.header("ETag") or "").removeprefix("W/").strip('"')
