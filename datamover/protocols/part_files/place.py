"""What every place does alike whose uploads are part files."""

import posixpath

from datamover.protocols.part_files.names import OLD, part_path, prefix
from datamover.protocols.part_files.seam import PartFiles
from datamover.protocols.part_files.upload import PartUpload
from datamover.protocols.upload import Check, Saved, UploadKey


class PartFilePlace(PartFiles):
    """The part of ``protocols.place.Place`` that is about uploads."""

    def begin(
        self,
        target: str,
        key: UploadKey,
        *,
        size: int | None = None,
        modified: float | None = None,
        sha256: str | None = None,
    ) -> PartUpload:
        """Return an upload whose part file stands beside its target."""
        return PartUpload(self, target, part_path(target, key), offset=0, modified=modified)

    def resume(
        self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None
    ) -> PartUpload:
        return PartUpload(self, target, saved.token, offset=saved.offset, modified=modified)

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Remove a transfer's part files, and what they were about to replace, from the target's directory."""
        directory, own = posixpath.dirname(target), prefix(transfer)
        for name in await self.list(directory):
            path = posixpath.join(directory, name)
            # The old file of the attempt before is given up once this one is in place, and not before.
            if name.startswith(own) and (keep is None or path not in (keep, f"{keep}{OLD}")):
                check()
                await self.remove(path)
