"""Paths below a destination's root, as a client may name them.

Pure: no file system is accessed. The protocols check symbolic links at every use.
"""

import re

from datamover.bounds.calls import LONGEST_PATH
from datamover.errors import PathNotAllowed

RESERVED = ".datamover-"
"""Prefix of the names of part files."""

LONGEST_NAME = 255
"""Bytes of a segment in UTF-8, as nearly every file system has it; a protocol may take longer ones."""

_SHOWN = 80
_TOO_LONG = f"is longer than {LONGEST_PATH} bytes: shorten it"
_UNPRINTABLE = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates."""
_HERE = re.compile(r"(?:\A|/)\.(?:/|\Z)")
"""A "." segment."""


def check_path(text: str, *, key: str, destination: str, longest: int = LONGEST_NAME) -> str:
    """Return ``text`` without "." segments and doubled "/"; "" is the root, a final "/" means "into this directory".

    ``longest``: bytes that a name may have at ``destination``. Raises PathNotAllowed, which names ``key`` (such as
    "files[3].path"), the value and ``destination``.
    """
    reason = _refusal(text, longest)
    if reason is not None:
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        raise PathNotAllowed(f"{key}: {shown!r} {reason.format(repr(destination))}")
    if "//" not in text and not _HERE.search(text):
        return text
    segments = [segment for segment in text.split("/") if segment not in ("", ".")]
    ending = "/" if segments and text.endswith(("/", "/.")) else ""
    return "/".join(segments) + ending


def is_into(path: str) -> bool:
    """Tell whether a checked path names a directory to put the file into, under its own name."""
    return not path or path.endswith("/")


def _refusal(text: str, longest: int) -> str | None:
    """Return why a path is refused, None if it is not; "{}" stands for the destination."""
    if len(text) > LONGEST_PATH:
        return _TOO_LONG
    segments = text.split("/")
    if "\0" in text or "%00" in text:
        return "holds a NUL, which no file's name can"
    if _UNPRINTABLE.search(text):
        return "holds control characters or lone surrogates: leave them out"
    if text.startswith("/"):
        return "begins with '/': name a path below the root of destination {}"
    # Servers on Windows, and some others, take a backslash for what separates names.
    if ".." in segments or ("\\" in text and ".." in text.replace("\\", "/").split("/")):
        return "leaves destination {}"
    if RESERVED in text and any(segment.startswith(RESERVED) for segment in segments):
        return f"has a name that begins with '{RESERVED}', which is kept for files on their way"
    length = len(text.encode())
    if length > longest and any(len(segment.encode()) > longest for segment in segments):
        return f"has a name of more than {longest} bytes: shorten it"
    if length > LONGEST_PATH:
        return _TOO_LONG
    return None
