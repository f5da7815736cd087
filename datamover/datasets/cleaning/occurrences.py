"""Keep or drop occurrence records, count those dropped by reason, and write the file of those kept.

A record's coordinates are checked first, then its flags; the first reason counts.
"""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from datamover.errors import DatasetEmpty

COLUMNS = ("species", "lon", "lat", "uncertainty", "date", "year", "month")
"""The columns of the file."""

PLACELESS = "placeless"
NOT_A_NUMBER = "not a number"
OUT_OF_RANGE = "out of range"
FLAGGED = "flagged: "
"""Followed by the flag's name. These are the reasons, in the order of the report."""

GATHERED = 4096
"""Lines that are written together."""


def number(text: str) -> float | None:
    """Return a decimal number; None for other text, which "1_0", "nan" and "٣" are here."""
    try:
        value = float(text)
    except ValueError:
        return None
    if "_" in text or not text.isascii() or (not math.isfinite(value) and "n" in text.lower()):
        return None
    return value


def fault(lon: str, lat: str) -> str | None:
    """Return the reason why coordinates are dropped, None for good ones."""
    if not lon or not lat:
        return PLACELESS
    x, y = number(lon), number(lat)
    if x is None or y is None:
        return NOT_A_NUMBER
    return None if -180.0 <= x <= 180.0 and -90.0 <= y <= 90.0 else OUT_OF_RANGE


class Occurrences:
    """The file of the kept records (UTF-8 CSV), and the count of all."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._lines = [",".join(COLUMNS)]
        self._dropped: Counter[str] = Counter()
        self._west = self._south = math.inf
        self._east = self._north = -math.inf
        self.read = 0
        self.kept = 0
        self.size = 0
        """Bytes written."""

    def take(self, fields: Sequence[str], flag: str | None = None) -> None:
        """Keep or drop one record: its fields in the order of ``COLUMNS``, and the first flag that drops it."""
        self.read += 1
        clean = [field.strip() for field in fields]
        lon, lat = clean[1], clean[2]
        # Most coordinates are good; this finds them without a call.
        try:
            x, y = float(lon), float(lat)
        except ValueError:
            x = y = math.nan
        plainly = -180.0 <= x <= 180.0 and -90.0 <= y <= 90.0 and lon.isascii() and lat.isascii()
        reason = None if plainly and "_" not in lon and "_" not in lat else fault(lon, lat)
        if reason is None and flag is not None:
            reason = FLAGGED + flag
        if reason is not None:
            self._dropped[reason] += 1
            return
        self.kept += 1
        if x < self._west:
            self._west = x
        if x > self._east:
            self._east = x
        if y < self._south:
            self._south = y
        if y > self._north:
            self._north = y
        line = ",".join(clean)
        if '"' in line or "\n" in line or "\r" in line or line.count(",") != len(COLUMNS) - 1:
            line = _quoted(clean)
        self._lines.append(line)
        if len(self._lines) >= GATHERED:
            self._write()

    def finish(self) -> None:
        """Write the remaining lines; no record may follow."""
        self._write()

    def check_kept(self) -> None:
        """Raise DatasetEmpty, with the reasons, if no record was kept."""
        if not self.kept:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
            raise DatasetEmpty(f"No valid occurrences left. Of {self.read:,} rows were dropped: {reasons}")

    @property
    def dropped(self) -> Mapping[str, int]:
        """Records by reason, in the order of the reasons, flags by name."""
        reasons = (PLACELESS, NOT_A_NUMBER, OUT_OF_RANGE, *sorted(self._dropped))
        return {reason: self._dropped[reason] for reason in reasons if self._dropped[reason]}

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north; None if nothing was kept."""
        return (self._west, self._south, self._east, self._north) if self.kept else None

    def told(self) -> dict[str, Any]:
        """Return the results for the finished file, as JSON values."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "bounds": self.bounds,
            "size": self.size,
            "sha256": self.sha256,
        }

    def _write(self) -> None:
        if self._lines:
            data = ("\n".join(self._lines) + "\n").encode("utf-8")
            self._lines = []
            self._digest.update(data)
            self._file.write(data)
            self.size += len(data)


def _quoted(fields: Sequence[str]) -> str:
    """Return a line with quotes where they are needed; line breaks within a field are single newlines."""
    text = io.StringIO()
    plain = [field.replace("\r\n", "\n").replace("\r", "\n") for field in fields]
    csv.writer(text, lineterminator="\n").writerow(plain)
    return text.getvalue()[:-1]
