"""The keys of a transfer's uploads: two uploads with the same key receive the same bytes.

A source without an identity gets a new key for each attempt, and its uploads are never resumed.
"""

import hashlib

from datamover.protocols.upload import UploadKey


def transfer_key(installation: str, transfer: int) -> str:
    """Return the part of the key that all uploads of one transfer share, distinct among databases."""
    return f"{installation[:8]}-{transfer}"


def upload_key(*, installation: str, transfer: int, source: str, identity: str | None, lease: int) -> UploadKey:
    """Return the key for a source with ``identity``; without one, for the attempt ``lease``."""
    read = identity if identity is not None else f"attempt {lease}"
    mark = hashlib.sha256("\0".join((installation, source, read)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return UploadKey(transfer_key(installation, transfer), mark)
