"""Parse what servers report of files: facts (RFC 3659, section 7), and lines in the form of ``ls -l`` or DOS. Pure."""

import posixpath
import re
from calendar import timegm
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from datamover.bounds.servers import (
    LISTING_LINES_IN_STEP,
    LONGEST_DOCUMENT_TEXT,
    LONGEST_FTP_LISTING_LINE,
    MOST_LISTING_LINES,
)
from datamover.errors import ServerError
from datamover.protocols.ftp.client.replies import decode

T = TypeVar("T")


_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d+))?")
# Mode, links, user, group (which may be missing), size, month, day, time or year, name. The user may have spaces, and
# the month be in any language ("Mär", "févr.", "11月").
_UNIX = re.compile(
    r"([-dlbcpsD])[-rwxsStTlL]{9}[.+@]?\s+(?:\d+\s+)?(?:\S.*?\s+)??(?:(\d+)|\d+,\s*\d+)\s+"
    r"(?:MONTH\s+\d{1,2}[.日]?|\d{1,2}\.?\s+MONTH|\d{4}-\d\d-\d\d)\s+(?:\d{1,2}:\d\d(?::\d\d)?|\d{4}年?)\s(.*)".replace(
        "MONTH", r"(?:[^\s\d]\S{1,7}|\d{1,2}[月월])"
    ),
    re.DOTALL,
)
_DOS = re.compile(r"\d\d-\d\d-\d{2,4}\s+\d\d:\d\d(?:[AaPp][Mm])?\s+(<[A-Z]+>|[\d,.]+)\s+(.*)", re.DOTALL)
_ARROW = " -> "


@dataclass(frozen=True, slots=True)
class FtpEntry:
    """One file, as a server reports it."""

    name: str
    kind: str
    """"file", "dir", "link" or "other"."""
    size: int | None = None
    modified: float | None = None
    """POSIX seconds; lines tell no time that is known to the second and of a zone."""
    unique: str = ""
    """What tells it from another file of the same name (RFC 3659, 7.5.2)."""
    target: str | None = None
    """Where a symbolic link leads, if that is told."""

    @property
    def identity(self) -> str | None:
        """What changes with the content; None where no time is told."""
        return None if self.modified is None else f"{self.modified!r}-{self.size}-{self.unique}"


class Lines(Generic[T]):
    """The lines of a listing, each parsed as it comes."""

    def __init__(self, parse: Callable[[str], T]) -> None:
        self._parse = parse
        self._found: list[T] = []
        self._rest = b""
        self._count = 0

    def feed(self, data: bytes) -> Generator[None, None, None]:
        """Parse the lines that end in the next bytes, in steps. Raises ServerError for too many, and for a long one."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._count += len(lines)
        if self._count > MOST_LISTING_LINES:
            raise ServerError(f"the listing has more than {MOST_LISTING_LINES:,} lines", retryable=False)
        for number, line in enumerate(lines, 1):
            self._take(line)
            if not number % LISTING_LINES_IN_STEP:
                yield
        if len(self._rest) > LONGEST_DOCUMENT_TEXT:
            raise ServerError(f"the listing has a line of more than {LONGEST_DOCUMENT_TEXT} bytes", retryable=False)

    def finish(self) -> list[T]:
        """Return all lines; the last one may have no end."""
        self._take(self._rest)
        return self._found

    def _take(self, line: bytes) -> None:
        if line.strip():
            self._found.append(self._parse(decode(line.removesuffix(b"\r"))))


def time_of(text: str) -> float | None:
    """Return the POSIX seconds of a time as MDTM and MLST tell it, in UTC (RFC 3659, 2.3); None for what is none."""
    found = _TIME.match(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    return timegm((year, month, day, hour, minute, second)) + (float(f"0.{found[7]}") if found[7] else 0.0)


def fact_entry(line: str) -> FtpEntry | None:
    """Return what a line of MLST or MLSD tells; None for "." and "..", and for what is no such line."""
    # A link's target may have spaces.
    facts, space, name = line.lstrip(" ").partition("; " if "; " in line else " ")
    if not space or "=" not in facts:
        return None
    told = {}
    for fact in facts.split(";"):
        key, _, value = fact.partition("=")
        told[key.lower()] = value
    kind, target = told.get("type", "file").lower(), None
    if kind in ("cdir", "pdir"):
        return None if name in (".", "..") else _entry(name, "dir", told, None)
    if kind.startswith(("os.unix=slink", "os.unix=symlink")):
        target = told["type"].partition(":")[2] or None
        kind = "link"
    return _entry(name, kind if kind in ("file", "dir", "link") else "other", told, target)


def _entry(name: str, kind: str, told: dict[str, str], target: str | None) -> FtpEntry:
    size = told.get("size", "")
    return FtpEntry(
        posixpath.basename(name.rstrip("/")) if "/" in name else name,
        kind,
        int(size) if size.isascii() and size.isdigit() else None,
        time_of(told.get("modify", "")),
        told.get("unique", ""),
        target,
    )


def line_entry(line: str) -> FtpEntry | None:
    """Return what a line of LIST tells; None for what is no such line ("total 12"), or is longer than one can be."""
    if len(line) > LONGEST_FTP_LISTING_LINE:
        return None
    found = _UNIX.fullmatch(line)
    if found is not None:
        name, target = found[3], None
        kind = {"-": "file", "d": "dir", "l": "link"}.get(found[1], "other")
        if kind == "link" and _ARROW in name:
            name, _, target = name.partition(_ARROW)
        return FtpEntry(name, kind, int(found[2]) if found[2] and kind == "file" else None, target=target)
    found = _DOS.fullmatch(line)
    if found is not None:
        if found[1] == "<DIR>":
            return FtpEntry(found[2], "dir")
        if found[1].startswith("<"):
            return FtpEntry(found[2], "link")
        return FtpEntry(found[2], "file", int(re.sub(r"\D", "", found[1])))
    return None
