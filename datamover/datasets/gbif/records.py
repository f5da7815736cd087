"""Which fields of GBIF's records are kept, and which flags drop a record. Pure.

Numbers are expected as the text in which GBIF wrote them, so that they are written with the same digits.
"""

from collections.abc import Collection, Mapping
from typing import Any

FIELDS = ("decimalLongitude", "decimalLatitude", "coordinateUncertaintyInMeters", "eventDate", "year", "month")
"""The fields of the columns after the species."""

ABSENT = "ABSENT"
"""The flag of a record which says that the taxon was looked for and not found."""
REPEATED = "REPEATED"
"""The flag of a record that an earlier page already held: GBIF's index moved while it was read."""


def fields_of(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a record's row, with ``name`` as the species where it names none."""
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
    """Return a value as text in one line; "" for none, and for what is no single value."""
    if not isinstance(value, str):
        return ""
    if not value.isprintable():
        # Line breaks and tabs become spaces; a NUL or half a surrogate pair is nothing that a file should hold.
        value = "".join(char for char in value if char.isprintable() or char.isspace())
    return " ".join(value.split())
