"""Make zip archives in a thread, streaming from file to file without holding a file in memory.

Members are stored, not compressed: most files are compressed already, and storing is as fast as the disk. There are two
layouts: ``zip`` holds the files by their names; ``bagit`` holds them under ``data/`` with the manifest
``manifest-md5.txt`` (after BagIt, RFC 8493), as the original service did.
"""

import calendar
import posixpath
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ZIP = "zip"
BAGIT = "bagit"
MANIFEST = "manifest-md5.txt"
CHUNK = 2**20

_EARLIEST, _LATEST = calendar.timegm((1980, 1, 1, 0, 0, 0)), calendar.timegm((2107, 12, 31, 23, 59, 58))


class Stopped(Exception):
    """``stop`` was set before the archive was complete."""


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """One file of an archive."""

    path: Path
    name: str
    md5: str
    """Hex, for the manifest of the bagit layout."""
    modified: float | None
    """POSIX seconds."""


def bagit_name(job: int) -> str:
    """Return the file name of a job's archive."""
    return f"move-job-{job}.zip"


def unique_names(names: Sequence[str]) -> list[str]:
    """Return ``names`` with a number added to repeated ones: ``a.csv``, ``a-2.csv``."""
    taken: set[str] = set()
    wanted = set(names)
    numbers: dict[str, int] = {}
    """The last number of each name; lower numbers are taken and are not tried again."""
    unique = []
    for name in names:
        stem, extension = posixpath.splitext(name)
        found, number = name, numbers.get(name, 1)
        while found in taken or (number > 1 and found in wanted):
            number += 1
            found = f"{stem}-{number}{extension}"
        numbers[name] = number
        taken.add(found)
        unique.append(found)
    return unique


def make(target: Path, members: Sequence[ArchiveMember], layout: str, stop: threading.Event) -> None:
    """Write the archive of ``members`` to ``target``, each under a unique name.

    Blocks. Raises OSError, and Stopped when ``stop`` is set.
    """
    prefix = "data/" if layout == BAGIT else ""
    names = unique_names([member.name for member in members])
    with target.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, member in zip(names, members, strict=True):
            info = zipfile.ZipInfo(prefix + name, _date(member.modified))
            info.external_attr = 0o100644 << 16
            with member.path.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                _copy(source, sink, stop)
        if layout == BAGIT:
            manifest = "".join(f"{member.md5} {prefix}{name}\n" for name, member in zip(names, members, strict=True))
            archive.writestr(MANIFEST, manifest.encode("utf-8"))


def _copy(source: IO[bytes], sink: IO[bytes], stop: threading.Event) -> None:
    while data := source.read(CHUNK):
        if stop.is_set():
            raise Stopped
        sink.write(data)


def _date(modified: float | None) -> tuple[int, int, int, int, int, int]:
    return time.gmtime(min(max(time.time() if modified is None else modified, _EARLIEST), _LATEST))[:6]
