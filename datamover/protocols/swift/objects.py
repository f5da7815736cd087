"""The headers of an object. Pure."""

import re
from dataclasses import dataclass

from datamover.protocols.http.answers import Head, tells_total
from datamover.protocols.object_store.found import etag_in
from datamover.protocols.object_store.found import found_in as found_of
from datamover.protocols.object_store.seam import FoundObject

PREFIX = "X-Object-Meta-"
"""The beginning of the headers of metadata."""
UPLOAD = f"{PREFIX}Datamover-Segments"
"""The header that names the upload whose segments a large object is made of."""
DIRECTORY = "application/directory"
"""The media type of objects that stand for directories."""

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SwiftObject(FoundObject):
    """An object that exists."""

    static_large: bool = False
    dynamic: bool = False
    """It is a dynamic large object, whose segments may change independently."""


def found_in(path: str, head: Head) -> SwiftObject:
    """Return the object at ``path``, from the answer to a HEAD or GET."""
    static = (head.header("X-Static-Large-Object") or "").strip().lower() == "true"
    dynamic = head.header("X-Object-Manifest") is not None
    etag = etag_in(head)
    if dynamic and head.length is None:
        etag = ""  # It is the manifest's, because the service does not look at all segments.
    md5 = etag if _MD5.fullmatch(etag) and not static and not dynamic else None
    directory = (head.header("Content-Type") or "").partition(";")[0].strip().lower() == DIRECTORY
    empty = tells_total(head, 0) or not head.length
    found = found_of(path, head, PREFIX, etag, md5, directory=directory and empty)
    return SwiftObject(
        found.inspection,
        found.condition,
        found.upload,
        found.etag,
        age=found.age,
        static_large=static,
        dynamic=dynamic,
    )
