"""Report the uploads at a destination that no transfer continues."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from datamover.errors import Unavailable
from datamover.protocols.place import UnfinishedUpload


class Uploading(Protocol):
    """The method of the job store that returns which targets' uploads may be in progress."""

    async def uploading(self, destination: str, targets: Sequence[str]) -> set[str]: ...


async def with_strays(store: Uploading, name: str, tested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a destination's test with ``strays`` in place of ``uploads``, if there are any.

    While the database is away it is unknown which uploads a transfer continues, and none is reported.
    """
    answer = dict(tested)
    uploads: Sequence[UnfinishedUpload] = answer.pop("uploads", ())
    if uploads:
        try:
            known = await store.uploading(name, sorted({each.path for each in uploads}))
        except Unavailable:
            return answer
        strays = [each.as_dict() for each in uploads if each.path not in known]
        answer |= {"strays": strays} if strays else {}
    return answer
