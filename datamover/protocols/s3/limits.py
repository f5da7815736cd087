"""The sizes of the parts that S3 services take."""

from datamover.protocols.object_store.limits import PartLimits

LIMITS = PartLimits(least=5 * 2**20, largest=5 * 2**30, most=10_000)
"""Amazon S3 User Guide, "Amazon S3 multipart upload limits"."""
