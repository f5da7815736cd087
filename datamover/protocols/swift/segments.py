"""What the segments of large objects are called, and the manifests that name them. Pure.

The segments of one upload stand in a directory of their own, whose name tells the upload, and by digests the target
and its directory: so they are found whatever happened to the process that sent them, and are never taken for another's.
"""

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterable
from typing import Any

from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.object_store.seam import Part
from datamover.protocols.upload import UploadKey

TOP = ".datamover-segments"
"""Hidden, where the segments are in the objects' own container; no client may name it."""
REPLACES = "replaces"
"""The object beside the segments that names the upload whose object is about to be replaced."""
TRIAL = "trial"
"""The copy beside the segments that shows whether the service copies large objects whole."""

_UPLOAD = re.compile(rf"{re.escape(TOP)}/[A-Za-z0-9-]+-[0-9a-f]{{16}}-([0-9a-f]{{16}})([0-9a-f]{{16}})")


def new_upload(key: UploadKey | str, target: str) -> str:
    """Return the directory of a new upload, by its key or the name of that, of the object ``target``."""
    name = key if isinstance(key, str) else f"{key.transfer}-{key.content}"
    random = os.urandom(8).hex()
    return f"{TOP}/{name}-{random}-{_mark(posixpath.dirname(target))}{_mark(target)}"


def prefix_of(transfer: str) -> str:
    """Return what the names of all segments of one transfer begin with."""
    return f"{TOP}/{transfer}-"


def segment(upload: str, number: int) -> str:
    return f"{upload}/{number:08d}"


def number_of(name: str) -> int | None:
    """Return the number of the part that has this name in its upload's directory, None for what is no part."""
    return int(name) if re.fullmatch(r"\d{8}", name) else None


def is_of(upload: str, target: str) -> bool:
    """Tell whether an upload is of the object ``target``; of any right below it, where that ends in "/" or is ""."""
    match = _UPLOAD.fullmatch(upload)
    if match is None:
        return False
    inside = not target or target.endswith("/")
    return match[1] == _mark(target.rstrip("/")) if inside else match[2] == _mark(target)


def manifest(container: str, parts: Iterable[tuple[str, Part]]) -> bytes:
    """Return the manifest of these objects in ``container``, each with its ETag and size, which the service checks."""
    entries = [{"path": f"/{container}/{name}", "etag": part.etag, "size_bytes": part.size} for name, part in parts]
    return json.dumps(entries).encode()


def etag_of(parts: Iterable[Part]) -> str:
    """Return the ETag of a static large object (Swift's API, "Static Large Objects")."""
    return hashlib.md5("".join(part.etag for part in parts).encode(), usedforsecurity=False).hexdigest()


def upload_in(container: str, body: bytes) -> str | None:
    """Return the upload whose segments in ``container`` a manifest names; None where it names any that are not ours.

    Raises Unreadable.
    """
    names = [each.get("name") for each in entries_of(body)]
    uploads = {str(name).removeprefix(f"/{container}/").rpartition("/")[0] for name in names}
    if len(uploads) != 1 or not all(str(name).startswith(f"/{container}/{TOP}/") for name in names):
        return None
    [upload] = uploads
    return upload if _UPLOAD.fullmatch(upload) else None


def entries_of(body: bytes) -> list[dict[str, Any]]:
    """Return the entries of a listing or a manifest. Raises Unreadable."""
    try:
        found = json.loads(body)
    except ValueError:
        raise Unreadable("it is not JSON") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Unreadable("it is not a list")
    return found


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
