"""Read a member of a zip while it is unpacked, within limits; no member is written to disk under its own name."""

import errno
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamover.bounds.datasets import LARGEST_NOTE, LONGEST_TABLE_LINE, LONGEST_WORDS, RATIO_FROM
from datamover.errors import DatasetInvalid

_READ = 256 * 1024
_DRIVE = re.compile(r"[A-Za-z]:")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """The limits of unpacked data."""

    size: int
    """Bytes."""
    ratio: int
    """Times the size of the zip, above ``RATIO_FROM``."""


@contextmanager
def opened(path: Path, source: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip that ``source`` sent and check its members' names; raises DatasetInvalid for a bad one.

    Errors of reading members within the block are raised as DatasetInvalid, too.
    """
    size = path.stat().st_size
    if not size:
        raise DatasetInvalid(f"{source} sent zero bytes")
    astray = DatasetInvalid(f"{source} sent a bad zip: its parts are not where it says")
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                _check_name(info.orig_filename, source)
                if not 0 <= info.header_offset < size:
                    raise astray
            yield archive
    except zipfile.BadZipFile as error:
        raise DatasetInvalid(f"{source} sent a bad zip: {_plain(error)}{_beginning(path)}") from None
    except (zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, OverflowError) as error:
        raise DatasetInvalid(f"{source} sent a bad zip: {_plain(error)}") from None
    except OSError as error:
        # Its directory begins before its beginning.
        if error.errno != errno.EINVAL:
            raise
        raise astray from None


def _check_name(name: str, source: str) -> None:
    parts = re.split(r"[/\\]", name)
    if ".." in parts or name.startswith(("/", "\\")) or _DRIVE.match(name) or "\0" in name:
        raise DatasetInvalid(f"{source} sent a zip that holds {name[:80]!r}, a name that leads out of it")


def _plain(error: Exception) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(error)) or type(error).__name__
    return text[:200].rstrip(".")


def _beginning(path: Path) -> str:
    """Return the beginning of a file that is no zip, if it is text: often it is an error page."""
    with path.open("rb") as file:
        text = file.read(200).decode("utf-8", "replace")
    words = " ".join(re.sub(r"<[^>]*>?", " ", text).split())
    return f'; it begins "{words[:100]}"' if words.isprintable() and "\ufffd" not in words and words else ""


def member(archive: zipfile.ZipFile, name: str, limits: UnpackLimits, source: str) -> io.TextIOWrapper:
    """Open a member as UTF-8 text, line breaks unchanged; raises DatasetInvalid if there is no such member.

    Reading it raises DatasetInvalid beyond ``limits``.
    """
    info = next((info for info in archive.infolist() if info.filename == name), None)
    if info is None:
        raise DatasetInvalid(f"{source} sent a zip without {name}")
    if info.flag_bits & _ENCRYPTED:
        raise DatasetInvalid(f"{source} sent a zip whose {name} is encrypted")
    if info.compress_type not in _METHODS:
        raise DatasetInvalid(f"{source} sent a zip whose {name} is compressed in a way that is not known here")
    packed = os.stat(archive.filename or "").st_size
    raw = Unpacked(archive.open(info), packed, limits, f"{name} of the zip that {source} sent")
    return io.TextIOWrapper(io.BufferedReader(raw, _READ), encoding="utf-8-sig", newline="")


def note(archive: zipfile.ZipFile, name: str) -> str | None:
    """Return the first line of a small text in the archive, None if there is no readable one."""
    info = next((info for info in archive.infolist() if info.filename == name), None)
    if info is None or info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        return None
    with archive.open(info) as file:
        text = file.read(LARGEST_NOTE).decode("utf-8-sig", "replace").strip()
    line = text.splitlines()[0].strip() if text else ""
    return line[:LONGEST_WORDS] if line and line.isprintable() else None


class Unpacked(io.RawIOBase):
    """A member's bytes; reading raises DatasetInvalid beyond the limits, and for a line that is too long."""

    def __init__(self, file: Any, packed: int, limits: UnpackLimits, shown: str) -> None:
        self._file = file
        self._packed = packed
        self._limits = limits
        self._shown = shown
        self._since_line = 0
        self.size = 0
        """Bytes so far."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        self._check(data)
        return len(data)

    def _check(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limits.size:
            raise DatasetInvalid(
                f"{self._shown} unpacks to more than {self._limits.size} bytes, which is more than is allowed here"
            )
        if self.size > max(RATIO_FROM, self._limits.ratio * self._packed):
            raise DatasetInvalid(
                f"{self._shown} unpacks to more than {self._limits.ratio} times the size of the zip, which is more "
                "than is allowed here"
            )
        found = data.rfind(b"\n")
        self._since_line = self._since_line + len(data) if found < 0 else len(data) - found - 1
        if self._since_line > LONGEST_TABLE_LINE:
            raise DatasetInvalid(f"{self._shown} has a line of more than {LONGEST_TABLE_LINE} bytes")

    def close(self) -> None:
        self._file.close()
        super().close()
