"""``[gbif]``: the URL of the Global Biodiversity Information Facility, and the issues that drop a record."""

from datamover.config.schema import DeclaredSection
from datamover.datasets.declaration import WebBase


class GbifSection(DeclaredSection):
    """``[gbif]``: occurrences from the Global Biodiversity Information Facility."""

    url: WebBase = "https://api.gbif.org/v1"
    bad_issues: tuple[str, ...] = (
        "ZERO_COORDINATE",
        "COORDINATE_INVALID",
        "COORDINATE_OUT_OF_RANGE",
        "COUNTRY_COORDINATE_MISMATCH",
        "COORDINATE_REPROJECTION_FAILED",
        "COORDINATE_REPROJECTION_SUSPICIOUS",
    )
    """Any of them drops a record; the first in this order is the reason."""
