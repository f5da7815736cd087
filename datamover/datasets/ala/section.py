"""``[ala]``: the URLs of the Atlas of Living Australia, the names of its columns, and the harmless flags.

All of it is configuration because the Atlas has changed its URLs and its names many times.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from datamover.config.checks import check_destination
from datamover.config.schema import Config, DeclaredSection
from datamover.config.types import Count, Duration, Size
from datamover.datasets.declaration import WebBase
from datamover.security.secret_files import SecretPath

Column = Literal["species", "lon", "lat", "uncertainty", "date", "year", "month", "ignore"]
"""A column of the occurrences; a header that means "ignore" is neither a column nor a flag."""

COLUMNS: Mapping[str, Column] = {
    "decimalLongitude": "lon",
    "Longitude - processed": "lon",
    "Decimal longitude (WGS84)": "lon",
    "Decimal longitude": "lon",
    "Longitude": "lon",
    "decimalLatitude": "lat",
    "Latitude - processed": "lat",
    "Decimal latitude (WGS84)": "lat",
    "Decimal latitude": "lat",
    "Latitude": "lat",
    "coordinateUncertaintyInMeters": "uncertainty",
    "Coordinate Uncertainty in Metres - parsed": "uncertainty",
    "Coordinate Uncertainty in Metres": "uncertainty",
    "Coordinate Uncertainty in Meters": "uncertainty",
    "Coordinate Uncertainty": "uncertainty",
    "eventDate": "date",
    "Event Date - parsed": "date",
    "Event Date": "date",
    "year": "year",
    "Year - parsed": "year",
    "month": "month",
    "Month - parsed": "month",
    "scientificName": "species",
    "Scientific Name - processed": "species",
    "Scientific Name": "species",
    "Matched Scientific Name": "species",
    "speciesID": "ignore",
    "species _ guid": "ignore",
}
"""Header -> column, the better of two headers first."""

GOOD_FLAGS = (
    "Record Verified",
    "Record Verified by collection manager",
    "recordVerified",
    "userVerified",
    "User Verified",
    "userAssertionVerified",
    "Verified",
    "spatiallyValid",
    "Spatially valid",
    "geospatialKosher",
    "taxonomicKosher",
)


def _below_root(value: str) -> str:
    path = value.strip("/")
    if not path.isprintable() or any(segment in ("", ".", "..") for segment in path.split("/") if path):
        raise ValueError('expected a directory below the destination\'s root, such as "ALA"')
    return path


def _address(value: str) -> str:
    name, at, host = value.partition("@")
    if not (name and at and host) or not value.isprintable() or " " in value:
        raise ValueError("expected the e-mail address that is registered with the Atlas")
    return value


class AlaSection(DeclaredSection):
    """``[ala]``: occurrences from the Atlas of Living Australia."""

    destination: str
    """Where pullOccurrenceFromALA places its files."""
    path: Annotated[str, AfterValidator(_below_root)] = "ALA"
    mode: Literal["offline", "direct"] = "offline"
    occurrences_url: WebBase = "https://biocache-ws.ala.org.au/ws"
    species_url: WebBase = "https://bie-ws.ala.org.au/ws"
    species_lookup: Literal["single", "bulk"] = "single"
    """One GET for each taxon, or one POST for those that are asked for at about the same time."""
    email: Annotated[str, AfterValidator(_address)]
    reason_type_id: Count = 4
    source_type_id: Count = 2002
    token_file: SecretPath | None = None
    quality: str = "all"
    good_flags: tuple[str, ...] = GOOD_FLAGS
    columns: Mapping[str, Column] = Field(default_factory=dict)
    """Further headers, which take precedence over those of ``COLUMNS``."""
    poll_interval: Duration = 5.0
    """Seconds before the status is first requested; later pauses are longer."""
    max_wait: Duration = 86400.0
    """Seconds that the Atlas may take to prepare a download."""
    max_unpacked: Size = 20 * 10**9
    """Bytes that a download may unpack to."""
    max_ratio: Count = 200
    """How many times its own size a download may unpack to, from 100 MB on."""

    def check_with(self, config: Config, here: str) -> None:
        """Raise ConfigError for a destination that does not exist."""
        check_destination(self.destination, config, f"{here}.destination")

    @property
    def headers(self) -> Mapping[str, Column]:
        """Header -> column, those of the configuration first."""
        return {**self.columns, **{name: column for name, column in COLUMNS.items() if name not in self.columns}}
