"""Is what came from a source what was expected: by size, and by the digests that are known of it."""

from collections.abc import Mapping

from datamover.engine.transfer.digest import Digest
from datamover.engine.transfer.spec import TransferSpec
from datamover.errors import ChecksumMismatch, SizeMismatch
from datamover.protocols.base import Inspection


async def verified(spec: TransferSpec, digest: Digest, size: int, inspection: Inspection) -> dict[str, str]:
    """Return the digests of what came, which is what was expected; raises SizeMismatch and ChecksumMismatch."""
    for told, expected in (("the source said", inspection.size), ("the request said", spec.size)):
        if expected is not None and size != expected:
            raise SizeMismatch(f"{spec.source}: {size} bytes came, {told} {expected}")
    digests = await digest.hexdigests()
    asked = spec.checksum
    _compare(spec.source, "the request", digests, {asked.algorithm: asked.hexdigest} if asked else {})
    _compare(spec.source, "the source", digests, inspection.digests)
    return digests


def _compare(source: str, whose: str, digests: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for algorithm, value in expected.items():
        if algorithm in digests and digests[algorithm] != value:
            raise ChecksumMismatch(f"{source}: {algorithm} is {digests[algorithm]}, {whose} expected {value}")
