"""The limits of the parts that one kind of service takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartLimits:
    """The limits of one kind of service."""

    least: int
    """Bytes of the smallest part, the last one excepted."""
    largest: int
    """Bytes of the largest part."""
    most: int
    """Parts of an upload, at most."""
    even: bool = False
    """Whether all parts but the last one must be of one size, and that one no larger."""


S3_LIMITS = PartLimits(least=5 * 2**20, largest=5 * 2**30, most=10_000)
"""Amazon S3 User Guide, "Amazon S3 multipart upload limits". Nextcloud's and ownCloud's chunks have the same, since
these servers may keep their files in S3."""
