"""``python -m datamover.datasets.gbif.clean``: clean the records in the pages of a search.

Runs in a process of its own; ``PagesRequest`` is its request.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamover.datasets.child import Report, serve
from datamover.datasets.cleaning.occurrences import Occurrences
from datamover.datasets.gbif.records import REPEATED, fields_of, flag_of, text_of
from datamover.errors import DatasetInvalid, Scope, ServerError

REPORTED = 1024
"""Records between two reports."""
DATASET_KEY = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class PagesRequest:
    """The parameters of the cleaning."""

    pages: str
    """A file with one page a line."""
    size: int
    """Records in a page."""
    count: int
    """Records that the search announced."""
    output: str
    keys: str
    """The file to write the keys of the kept records' datasets to, one a line."""
    name: str
    """The name of the taxon."""
    bad_issues: tuple[str, ...]


def work(told: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Clean; returns ``Occurrences.told`` and the number of ``datasets``.

    Raises DatasetEmpty, DatasetInvalid, and ServerError for pages that are not the requested ones.
    """
    request = PagesRequest(**told)
    seen: set[str] = set()
    datasets: set[str] = set()
    with Path(request.output).open("wb") as file:
        occurrences = Occurrences(file)
        for record in _records(request):
            key = text_of(record.get("key"))
            kept = occurrences.kept
            occurrences.take(
                fields_of(record, request.name),
                REPEATED if key in seen else flag_of(record, request.bad_issues),
            )
            if key:
                seen.add(key)
            if occurrences.kept > kept:
                datasets.add(text_of(record.get("datasetKey")))
            if not occurrences.read % REPORTED:
                report({"rows": occurrences.read})
        occurrences.finish()
    occurrences.check_kept()
    keys = sorted(filter(DATASET_KEY.fullmatch, datasets))
    Path(request.keys).write_text("".join(f"{key}\n" for key in keys), encoding="ascii")
    return {**occurrences.told(), "datasets": len(keys)}


def _records(request: PagesRequest) -> Iterator[Mapping[str, Any]]:
    for records in pages_of(Path(request.pages), request.size, request.count):
        for record in records:
            if not isinstance(record, dict):
                raise DatasetInvalid("GBIF sent a record that is not a JSON object")
            yield record


def pages_of(path: Path, size: int, count: int) -> Iterator[list[Any]]:
    """Yield the records of each page: ``size`` of ``count``, fewer on the last.

    Raises ServerError for a page that holds no records, begins at another offset or has too few records.
    """
    with path.open("rb") as lines:
        for index, line in enumerate(lines):
            offset = index * size
            try:
                page = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
            except (ValueError, RecursionError):
                page = None
            records = page.get("results") if isinstance(page, dict) else None
            if not isinstance(records, list):
                raise ServerError(f"GBIF's answer for the records from {offset} on holds none", scope=Scope.SOURCE)
            sent = text_of(page.get("offset")) or str(offset)
            if sent != str(offset):
                raise ServerError(
                    f"GBIF sent the records from {sent} on, not those from {offset} on", scope=Scope.SOURCE
                )
            expected = min(size, count - offset)
            if len(records) < expected and page.get("endOfRecords") is not True:
                raise ServerError(
                    f"GBIF sent {len(records)} of {expected} records from {offset} on", scope=Scope.SOURCE
                )
            yield records


if __name__ == "__main__":
    serve(work)
