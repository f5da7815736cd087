"""Read the JSON of servers: a list entry by entry, anything else at once if it is short. Pure."""

import codecs
import json
import re
from collections.abc import Generator
from typing import Any

from datamover.bounds.servers import (
    DOCUMENT_PIECE,
    LARGEST_JSON_AT_ONCE,
    LONGEST_ENTRY,
    MOST_ENTRIES,
    MOST_JSON_CONTAINERS,
)
from datamover.protocols.http_place.refused import Unreadable

_NO_LIST = "it is not a list of objects in JSON"
_SPACE = re.compile(r"[ \t\n\r]{0,4096}")
_decode = json.JSONDecoder().raw_decode


def entries_in(body: bytes) -> Generator[None, None, list[dict[str, Any]]]:
    """Return the entries of a list of objects, in steps. Raises Unreadable."""
    try:
        text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Unreadable(_NO_LIST) from None
    found: list[dict[str, Any]] = []
    at, window, begins, paused = _expect(text, 0, "["), "", 0, 0
    if text[at : at + 1] == "]":
        _expect(text, at, "]", last=True)
        return found
    while True:
        if text[at : at + 1] != "{":
            raise Unreadable(_NO_LIST)
        # An entry is looked for in a short text, so that one without an end costs little.
        entry = _entry(window, at - begins)
        if entry is None:
            window, begins = text[at : at + LONGEST_ENTRY], at
            entry = _entry(window, 0)
        if entry is None:
            raise Unreadable(_NO_LIST)
        found.append(entry[0])
        if len(found) > MOST_ENTRIES:
            raise Unreadable(f"it has more than {MOST_ENTRIES:,} entries")
        at = _after_space(text, begins + entry[1])
        if text[at : at + 1] != ",":
            _expect(text, at, "]", last=True)
            return found
        at = _expect(text, at, ",")
        if at - paused >= DOCUMENT_PIECE:
            paused = at
            yield


def short_json(body: bytes) -> Any:
    """Return what a short text in JSON holds. Raises ValueError for what is none, or too long."""
    if len(body) > LARGEST_JSON_AT_ONCE or body.count(b"[") + body.count(b"{") > MOST_JSON_CONTAINERS:
        raise ValueError("more JSON than is parsed at once")
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("too deep") from error


def _entry(window: str, at: int) -> tuple[dict[str, Any], int] | None:
    """Return the object at a place of a text and where it ends, None if that has none, or not its end."""
    if at >= len(window):
        return None
    try:
        return _decode(window, at)
    except (ValueError, RecursionError):
        return None


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _expect(text: str, at: int, sign: str, *, last: bool = False) -> int:
    """Return the place after a sign and the white space around it. Raises Unreadable where it is missing."""
    at = _after_space(text, at)
    end = _after_space(text, at + 1)
    if text[at : at + 1] != sign or (last and end != len(text)):
        raise Unreadable(_NO_LIST)
    return end
