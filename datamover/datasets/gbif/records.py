"""The fields of GBIF's records that are kept, and the flags that drop a record. Pure.

Numbers are kept as the text that GBIF wrote, so that they are written with the same digits.
"""

from collections.abc import Collection, Mapping
from typing import Any

FIELDS = ("decimalLongitude", "decimalLatitude", "coordinateUncertaintyInMeters", "eventDate", "year", "month")
"""The fields of the columns after the species."""

ABSENT = "ABSENT"
"""The flag of a record that states the absence of the taxon."""
REPEATED = "REPEATED"
"""The flag of a record that an earlier page had already, because GBIF's index changed meanwhile."""


def fields_of(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a record's row; if it names no species, that is ``name``."""
    species = text_of(record.get("species")) or text_of(record.get("scientificName")) or name
    return species, *(text_of(record.get(field)) for field in FIELDS)


def flag_of(record: Mapping[str, Any], condemning: Collection[str]) -> str | None:
    """Return the first of the ``condemning`` issues that a record has, ABSENT for an absence, else None."""
    issues = record.get("issues")
    if isinstance(issues, list):
        for issue in condemning:
            if issue in issues:
                return issue
    return ABSENT if text_of(record.get("occurrenceStatus")).upper() == ABSENT else None


def text_of(value: object) -> str:
    """Return a string in one line, "" for any other value."""
    if not isinstance(value, str):
        return ""
    if not value.isprintable():
        # Line breaks and tabs become spaces; NULs and half surrogate pairs are removed.
        value = "".join(char for char in value if char.isprintable() or char.isspace())
    return " ".join(value.split())
