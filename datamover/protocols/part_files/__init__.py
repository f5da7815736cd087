"""Uploads by a hidden part file and a rename, shared by the protocols whose servers can rename.

``seam`` is what such a protocol implements; ``place`` and ``upload`` build ``Place`` and ``Upload`` on it; ``names``
has the names of part files. ``accounts`` and ``refusals`` are for file servers with logins.
"""

from datamover.protocols.part_files.place import PartFilePlace

__all__ = ["PartFilePlace"]
