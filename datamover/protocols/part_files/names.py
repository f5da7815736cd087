"""What part files are called.

A part file is hidden, stands in its target's directory, and is named for its upload's key: whoever still writes to it
late writes the same bytes to the same place.
"""

import posixpath

from datamover.protocols.upload import UploadKey

PREFIX = ".datamover-"
SUFFIX = ".part"
OLD = ".old"
"""What follows a part file's name in the hidden name that the old file has while it is replaced."""


def part_path(target: str, key: UploadKey, suffix: str = SUFFIX) -> str:
    """Return the path of the part file for ``target``."""
    return posixpath.join(posixpath.dirname(target), f"{prefix(key.transfer)}{key.content}{suffix}")


def prefix(transfer: str) -> str:
    """Return what the names of all part files of one transfer begin with."""
    return f"{PREFIX}{transfer}-"
