"""The part of a place that makes uploads of part files and sweeps them."""

import posixpath

from datamover.protocols.part_files.names import OLD, part_path, prefix
from datamover.protocols.part_files.seam import PartFiles
from datamover.protocols.part_files.upload import PartUpload
from datamover.protocols.upload import Check, Saved, UploadKey


class PartFilePlace(PartFiles):
    """The methods of ``protocols.place.Place`` that are about uploads; a protocol's place derives from it."""

    def begin(
        self,
        target: str,
        key: UploadKey,
        *,
        size: int | None = None,
        modified: float | None = None,
        sha256: str | None = None,
    ) -> PartUpload:
        """Return an upload whose part file lies beside its target."""
        return PartUpload(self, target, part_path(target, key), offset=0, modified=modified)

    def resume(
        self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None
    ) -> PartUpload:
        return PartUpload(self, target, saved.token, offset=saved.offset, modified=modified)

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Remove a transfer's part files, and their hidden old files, from the target's directory."""
        directory, own = posixpath.dirname(target), prefix(transfer)
        for name in await self.list(directory):
            path = posixpath.join(directory, name)
            # The old file that ``keep`` is to replace is removed only when that one is in place.
            if name.startswith(own) and (keep is None or path not in (keep, f"{keep}{OLD}")):
                check()
                await self.remove(path)
