"""Uploads made of a hidden part file and a rename: what every protocol shares whose side can rename.

``seam`` is what such a protocol provides, ``place`` and ``upload`` make the engine's seams of it, and ``names`` says
what part files are called. ``accounts`` and ``refusals`` are for servers that one logs in to.
"""

from datamover.protocols.part_files.place import PartFilePlace

__all__ = ["PartFilePlace"]
