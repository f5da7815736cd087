"""The names of large objects' segments, and the manifests that list them. Pure.

The segments of one upload are in a directory of their own. Its name contains the upload's key, and digests of the
target and of the target's directory, so any process can find them, and does not confuse them with another target's.
"""

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Generator, Iterable

from datamover.protocols.http_place.json_documents import entries_in
from datamover.protocols.object_store.seam import Part
from datamover.protocols.slices import converted
from datamover.protocols.upload import UploadKey

TOP = ".datamover-segments"
"""The directory of all segments; hidden, in case they are in the objects' own container."""
REPLACES = "replaces"
"""The note beside the segments: the upload whose object will be replaced."""
TRIAL = "trial"
"""The copy beside the segments by which it is tried whether the service copies large objects whole."""

_UPLOAD = re.compile(rf"{re.escape(TOP)}/[A-Za-z0-9-]+-[0-9a-f]{{16}}-([0-9a-f]{{16}})([0-9a-f]{{16}})")


def new_upload(key: UploadKey | str, target: str) -> str:
    """Return the directory of a new upload of ``target``, named after its key or the text of that."""
    name = key if isinstance(key, str) else f"{key.transfer}-{key.content}"
    random = os.urandom(8).hex()
    return f"{TOP}/{name}-{random}-{_mark(posixpath.dirname(target))}{_mark(target)}"


def prefix_of(transfer: str) -> str:
    """Return the beginning of the names of all segments of one transfer."""
    return f"{TOP}/{transfer}-"


def segment(upload: str, number: int) -> str:
    return f"{upload}/{number:08d}"


def number_of(name: str) -> int | None:
    """Return the number of the part with this name in its upload's directory, None if it is no part."""
    return int(name) if re.fullmatch(r"\d{8}", name) else None


def is_of(upload: str, target: str) -> bool:
    """Tell whether an upload is of ``target``, or if that ends in "/" or is "", of an object directly below it."""
    match = _UPLOAD.fullmatch(upload)
    if match is None:
        return False
    inside = not target or target.endswith("/")
    return match[1] == _mark(target.rstrip("/")) if inside else match[2] == _mark(target)


def manifest(container: str, parts: Iterable[tuple[str, Part]]) -> bytes:
    """Return a manifest of these objects in ``container``, with their ETags and sizes, which the service checks."""
    entries = [{"path": f"/{container}/{name}", "etag": part.etag, "size_bytes": part.size} for name, part in parts]
    return json.dumps(entries).encode()


def etag_of(parts: Iterable[Part]) -> str:
    """Return the ETag of a static large object (Swift's API, "Static Large Objects")."""
    return hashlib.md5("".join(part.etag for part in parts).encode(), usedforsecurity=False).hexdigest()


def upload_in(container: str, body: bytes) -> Generator[None, None, str | None]:
    """Return the upload whose segments a manifest lists, None if it lists any that are not ours, in steps.

    Raises Unreadable.
    """
    entries = yield from entries_in(body)
    names = yield from converted(entries, lambda entry: str(entry.get("name")))
    ours = f"/{container}/{TOP}/"
    uploads = yield from converted(names, lambda name: name.rpartition("/")[0] if name.startswith(ours) else "")
    if len(set(uploads)) != 1:
        return None
    upload = uploads[0].removeprefix(f"/{container}/")
    return upload if _UPLOAD.fullmatch(upload) else None


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
