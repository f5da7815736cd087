"""``python -m datamover.datasets.ala.clean``: clean the records in the zip that the Atlas sent.

Runs in a process of its own; ``ZipRequest`` is its request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamover.datasets.child import Report, serve
from datamover.datasets.cleaning.occurrences import Occurrences
from datamover.datasets.cleaning.table import clean
from datamover.datasets.cleaning.unpacking import UnpackLimits, member, note, opened
from datamover.errors import DatasetEmpty

DATA = "data.csv"
DOI = "doi.txt"


@dataclass(frozen=True, slots=True)
class ZipRequest:
    """The parameters of the cleaning."""

    archive: str
    output: str
    headers: dict[str, str]
    good_flags: list[str]
    max_unpacked: int
    max_ratio: int


def work(told: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Clean; returns ``Occurrences.told`` and the ``doi``. Raises DatasetInvalid and DatasetEmpty."""
    request = ZipRequest(**told)
    bounds = UnpackLimits(request.max_unpacked, request.max_ratio)
    with opened(Path(request.archive), "ALA") as archive, Path(request.output).open("wb") as file:
        doi = note(archive, DOI)
        occurrences = Occurrences(file)
        with member(archive, DATA, bounds, "ALA") as text:
            clean(text, request.headers, request.good_flags, occurrences, lambda rows: report({"rows": rows}))
    if not occurrences.read:
        raise DatasetEmpty("ALA has no occurrence records of it: the download holds a header and no rows")
    occurrences.check_kept()
    return {**occurrences.told(), "doi": doi}


if __name__ == "__main__":
    serve(work)
