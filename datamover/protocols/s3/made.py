"""The uploads that this process began and has not ended; it may abort them, whoever else uses the bucket."""

REMEMBERED = 10_000
"""Uploads; those that another process ended are among them."""


class MadeUploads:
    """Uploads of one service -> their transfers; the oldest are forgotten."""

    def __init__(self) -> None:
        self._transfers: dict[str, str] = {}
        self.unchecked: set[str] = set()
        """Uploads, whoever began them, whose parts have no checksums."""

    def add(self, upload: str, transfer: str) -> None:
        self._transfers[upload] = transfer
        if len(self._transfers) > REMEMBERED:
            del self._transfers[next(iter(self._transfers))]

    def transfer(self, upload: str) -> str | None:
        """Return the transfer of an upload, None if the upload is unknown."""
        return self._transfers.get(upload)

    def forget(self, upload: str) -> None:
        self._transfers.pop(upload, None)
        self.unchecked.discard(upload)

    def clear(self) -> None:
        self._transfers.clear()
