"""The description among a dataset's files: their contents, their source, and the records dropped. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

OCCURRENCE = "occurrence"
ATTRIBUTION = "attribution"


@dataclass(frozen=True, slots=True)
class DescribedFile:
    """A file of the dataset."""

    url: str
    """Its path at the destination."""
    kind: str
    """``OCCURRENCE`` or ``ATTRIBUTION``."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Description:
    """The description of a dataset."""

    subject: str
    """The taxon of the records: "Red Kangaroo (Macropus rufus)"."""
    source: str
    """The service that has the records: "ALA"."""
    url: str
    """Where the service shows the same records."""
    doi: str | None
    moment: float
    """When the records were requested, in POSIX seconds."""
    parts: Sequence[DescribedFile]
    """All files except the description itself, which importers would take for data."""
    count: int
    bounds: Sequence[float]
    """West, south, east, north."""
    dropped: Mapping[str, int]

    def encoded(self) -> bytes:
        """Return the description as indented JSON."""
        day = datetime.fromtimestamp(self.moment, UTC).strftime("%d/%m/%Y")
        provenance = {"source": self.source, "url": self.url, "source_date": day}
        if self.doi is not None:
            provenance["doi"] = self.doi
        told = {
            "title": f"{self.subject} occurrences",
            "description": f"Observed occurrences for {self.subject}, imported from {self.source} on {day}",
            "num_occurrences": self.count,
            "files": [
                {"url": part.url, "dataset_type": part.kind, "size": part.size, "digest": f"sha256:{part.sha256}"}
                for part in self.parts
            ],
            "provenance": provenance,
            "bounds": list(self.bounds),
            "rows_dropped": dict(self.dropped),
        }
        return (json.dumps(told, indent=4, ensure_ascii=False) + "\n").encode("utf-8")
