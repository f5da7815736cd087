"""The names of part files.

A part file is hidden, lies in its target's directory, and is named after its upload's key, so that a process that still
writes to it after it lost its lease writes the same bytes to the same place.
"""

import posixpath

from datamover.protocols.upload import UploadKey

PREFIX = ".datamover-"
SUFFIX = ".part"
OLD = ".old"
"""Added to a part file's name: the hidden second name of the old file while it is replaced."""


def part_path(target: str, key: UploadKey, suffix: str = SUFFIX) -> str:
    """Return the path of the part file for ``target``."""
    return posixpath.join(posixpath.dirname(target), f"{prefix(key.transfer)}{key.content}{suffix}")


def prefix(transfer: str) -> str:
    """Return the beginning of the names of all part files of one transfer."""
    return f"{PREFIX}{transfer}-"
