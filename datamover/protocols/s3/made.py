"""The uploads that this process began and has not ended; it may abort them, whoever else uses the bucket."""

from dataclasses import replace
from typing import Any

from datamover.protocols.object_store.limits import S3_LIMITS, PartLimits
from datamover.protocols.s3.service import S3Refused

REMEMBERED = 10_000
"""Uploads; those that another process ended are among them."""


class MadeUploads:
    """Uploads of one service -> their transfers; the oldest are forgotten."""

    def __init__(self, limits: PartLimits = S3_LIMITS) -> None:
        self.limits = limits
        """The limits of the service's parts, as far as they are known; a refusal may tell others."""
        self._transfers: dict[str, str] = {}
        self._unchecked: dict[str, None] = {}

    def add(self, upload: str, transfer: str) -> None:
        self._transfers[upload] = transfer
        _forget_oldest(self._transfers)

    def transfer(self, upload: str) -> str | None:
        """Return the transfer of an upload, None if the upload is unknown."""
        return self._transfers.get(upload)

    def forget(self, upload: str) -> None:
        self._transfers.pop(upload, None)
        self._unchecked.pop(upload, None)

    def leave_unchecked(self, upload: str) -> None:
        """Note that the parts of an upload, whoever began it, have no checksums."""
        self._unchecked[upload] = None
        _forget_oldest(self._unchecked)

    def checked(self, upload: str) -> bool:
        """Return whether the parts of an upload may have checksums."""
        return upload not in self._unchecked

    def learn(self, refusal: S3Refused) -> bool:
        """Learn a limit of parts from a refusal; return whether it told one that was not known."""
        known, most = self.limits, refusal.most_parts
        if refusal.uneven:
            self.limits = replace(self.limits, even=True)
        if most is not None and most < known.most:
            self.limits = replace(self.limits, most=most)
        return self.limits != known

    def clear(self) -> None:
        self._transfers.clear()


def _forget_oldest(uploads: dict[str, Any]) -> None:
    if len(uploads) > REMEMBERED:
        del uploads[next(iter(uploads))]
