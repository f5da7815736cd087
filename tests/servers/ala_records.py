"""Occurrence records as the Atlas sends them: CSV with the headers of several years, and its zip archive."""

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence

LSID = "urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae"

DWC = (
    "decimalLongitude",
    "decimalLatitude",
    "coordinateUncertaintyInMeters",
    "eventDate",
    "year",
    "month",
    "speciesID",
    "scientificName",
)
LABELS = (
    "Longitude - processed",
    "Latitude - processed",
    "Coordinate Uncertainty in Metres",
    "Event Date - parsed",
    "Year",
    "Month",
    "species _ guid",
    "Scientific Name",
)
GOOD_ROWS: tuple[tuple[str, ...], ...] = (
    ("149.1", "-35.3", "100.0", "2012-03-04", "2012", "03", LSID, "Macropus rufus"),
    ("115.86", "-31.95", "", "1999-12-31", "1999", "12", LSID, "Macropus rufus"),
)


def records_csv(
    rows: Iterable[Sequence[str]] = GOOD_ROWS,
    *,
    header: Sequence[str] = DWC,
    flags: Sequence[str] = (),
    quoted: bool = False,
    bom: bool = False,
    newline: str = "\n",
) -> bytes:
    """Return records as CSV; the values of ``flags`` are at the end of the rows."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator=newline)
    writer.writerow([*header, *flags])
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig" if bom else "utf-8")


def records_zip(
    data: bytes | None = None,
    *,
    doi: str | None = None,
    extras: bool = True,
    members: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return the zip of a download: ``data.csv`` (None: without) and, with ``extras``, its usual other files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        if extras:
            archive.writestr("README.html", "<html>About this download</html>")
            archive.writestr("citation.csv", "Data resource,Citation\nMuseum,Cite it so\n")
            archive.writestr("headings.csv", "Column name,Requested field\n")
        if data is not None:
            archive.writestr("data.csv", data)
        if doi is not None:
            archive.writestr("doi.txt", doi + "\n")
        for name, content in (members or {}).items():
            archive.writestr(name, content)
    return packed.getvalue()
