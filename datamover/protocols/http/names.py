"""What a downloaded file is called: from Content-Disposition (RFC 6266), else from the URL. Pure.

A name comes from strangers and ends in somebody's directory, so it is always one path segment, free of control
characters, never "." or "..", and at most 255 bytes of UTF-8.
"""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

LONGEST = 255
"""Bytes of UTF-8: what Linux file systems take."""
LONGEST_EXTENSION = 32

_PARAMETER = re.compile(r""";\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)""", re.DOTALL)
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE | re.DOTALL)
_QUOTED_PAIR = re.compile(r'\\(["\\])')
_EXTENSION = re.compile(r"(?:\.tar)?\.[^.\s]+$", re.IGNORECASE)
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
# Marks that make a name read other than it is: "exe.gpj" for "jpg.exe".
_DIRECTION_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def text_of(raw: bytes) -> str:
    """Return a header's or an escaped path's bytes as text: UTF-8 as is usual, else ISO 8859-1 as once was."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def safe_name(text: str) -> str:
    """Return the last path segment of ``text`` as a name that any directory can hold; "" where nothing is left."""
    name = re.split(r"[/\\]", text)[-1]
    if not name.isprintable():
        name = "".join(
            char for char in name if unicodedata.category(char) not in _UNPRINTABLE and char not in _DIRECTION_OVERRIDES
        )
    name = name.strip()
    return "" if name in (".", "..") else _shortened(name)


def _shortened(name: str) -> str:
    if len(name.encode("utf-8")) <= LONGEST:
        return name
    found = _EXTENSION.search(name)
    extension = found[0] if found and len(found[0].encode("utf-8")) <= LONGEST_EXTENSION else ""
    stem = name.removesuffix(extension).encode("utf-8")[: LONGEST - len(extension.encode("utf-8"))]
    return stem.decode("utf-8", "ignore") + extension


def disposition_name(header: bytes) -> str:
    """Return the name that a Content-Disposition header gives, made safe; "" where it gives none.

    ``filename*`` goes before ``filename`` (RFC 6266 4.3, RFC 8187).
    """
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(";" + text_of(header).partition(";")[2]):
        found.setdefault(name.lower(), value.strip())
    extended = _EXTENDED.fullmatch(found.get("filename*", "").strip('"'))
    if extended is not None:
        raw = unquote_to_bytes(extended[2])
        name = safe_name(text_of(raw) if extended[1].lower() == "utf-8" else raw.decode("latin-1"))
        if name:
            return name
    plain = found.get("filename", "")
    if len(plain) > 1 and plain.startswith('"') and plain.endswith('"'):
        plain = _QUOTED_PAIR.sub(r"\1", plain[1:-1])
    return safe_name(plain)


def path_name(path: str) -> str:
    """Return the name that the last segment of a percent-encoded path gives, made safe; "" where it gives none."""
    return safe_name(text_of(unquote_to_bytes(path.rpartition("/")[2])))
