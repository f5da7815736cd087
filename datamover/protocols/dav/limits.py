"""The sizes of the chunks that Nextcloud and ownCloud take."""

from datamover.protocols.object_store.limits import PartLimits

LIMITS = PartLimits(least=5 * 2**20, largest=5 * 2**30, most=10_000)
"""Of version 2, where the server keeps its files in an object store."""
