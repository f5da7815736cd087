"""Make the name of a download safe for a directory. Pure.

Servers choose the name, so it is reduced to one path segment without control characters, never hidden (so never one of
datamover's part files), of at most 255 bytes of UTF-8.
"""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from datamover.web.paths import LONGEST_NAME

LONGEST_EXTENSION = 32
"""Bytes of UTF-8 of an extension that is kept when a name is cut."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")
"""Names that are safe as they are, as nearly all are."""
_SEPARATORS = re.compile(r"[/\\]")
_HIDING = re.compile(r"[\s.]+")
_EXTENSION = re.compile(r"(?:\.tar)?\.[^.\s]+$", re.IGNORECASE)
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
# Direction marks that disguise a name ("exe.gpj" for "jpg.exe"), and invisible characters.
_MISLEADING = frozenset("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")


def text_of(raw: bytes) -> str:
    """Decode bytes of a header or a path: as UTF-8, else as windows-1252, as browsers do."""
    for charset in ("utf-8", "windows-1252"):
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def safe_name(text: str) -> str:
    """Return the last path segment of ``text`` as a safe name; "" if nothing is left."""
    name = _SEPARATORS.split(text)[-1]
    if not name.isprintable():
        name = "".join(
            char for char in name if unicodedata.category(char) not in _UNPRINTABLE and char not in _MISLEADING
        )
    if hiding := _HIDING.match(name):
        name = name[hiding.end() :]
    return _shortened(name.rstrip())


def _shortened(name: str) -> str:
    if len(name.encode("utf-8")) <= LONGEST_NAME:
        return name
    found = _EXTENSION.search(name)
    extension = found[0] if found and len(found[0].encode("utf-8")) <= LONGEST_EXTENSION else ""
    stem = name.removesuffix(extension).encode("utf-8")[: LONGEST_NAME - len(extension.encode("utf-8"))]
    return stem.decode("utf-8", "ignore") + extension


def path_name(path: str) -> str:
    """Return the last segment of a percent-encoded path as a safe name; "" if there is none."""
    name = path.rpartition("/")[2]
    return name if _PLAIN.fullmatch(name) else safe_name(text_of(unquote_to_bytes(name)))
