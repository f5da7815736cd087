"""The keys of a transfer's uploads: equal where the same bytes are written.

A source that gives no sign of a change gets a key for each attempt, and its uploads are never resumed.
"""

import hashlib

from datamover.protocols.upload import UploadKey


def transfer_key(installation: str, transfer: int) -> str:
    """Return what all uploads of one transfer share; transfers of other databases have the same numbers."""
    return f"{installation[:8]}-{transfer}"


def upload_key(*, installation: str, transfer: int, source: str, identity: str | None, lease: int) -> UploadKey:
    """Return the key of what is read from a source with an identity; without one, of the attempt ``lease``."""
    read = identity if identity is not None else f"attempt {lease}"
    mark = hashlib.sha256("\0".join((installation, source, read)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return UploadKey(transfer_key(installation, transfer), mark)
