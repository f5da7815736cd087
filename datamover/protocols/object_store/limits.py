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
