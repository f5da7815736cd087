"""The sizes of the objects, and the lengths of the names, that Swift services take."""

from datamover.protocols.object_store.limits import PartLimits

LARGEST = 5 * 2**30
"""Bytes of a plain object or a segment (Swift's API, "Object Storage API overview")."""
LIMITS = PartLimits(least=2**20, largest=LARGEST, most=1_000_000)
"""A manifest names a thousand manifests of a thousand segments. Small segments would be slow to read."""
LONGEST_NAME = 1024
"""Bytes of an object's name (same source)."""
