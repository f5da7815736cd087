"""Verify what a source sent: its size, and its digests as far as they are known."""

from collections.abc import Mapping

from datamover.engine.transfer.digest import Digest
from datamover.engine.transfer.spec import TransferSpec
from datamover.errors import ChecksumMismatch, SizeMismatch
from datamover.protocols.base import Inspection
from datamover.text.quantities import count


async def verified(spec: TransferSpec, digest: Digest, size: int, inspection: Inspection) -> dict[str, str]:
    """Return the digests of what was received; raises SizeMismatch and ChecksumMismatch if it is not as expected."""
    for whose, expected in (("the source said", inspection.size), ("the request said", spec.size)):
        if expected is not None and size != expected:
            raise SizeMismatch(f"{spec.source}: {count(size, 'byte')} came, {whose} {expected}")
    digests = await digest.hexdigests()
    checksum = spec.checksum
    _compare(spec.source, "the request", digests, {checksum.algorithm: checksum.hexdigest} if checksum else {})
    _compare(spec.source, "the source", digests, inspection.digests)
    return digests


def _compare(source: str, whose: str, digests: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for algorithm, value in expected.items():
        if algorithm in digests and digests[algorithm] != value:
            raise ChecksumMismatch(f"{source}: {algorithm} is {digests[algorithm]}, {whose} expected {value}")
