"""List a container, page by page."""

from collections.abc import Generator
from dataclasses import dataclass

from datamover.protocols.http_place.json_documents import entries_in
from datamover.protocols.http_place.refused import Refused, Unreadable
from datamover.protocols.slices import converted
from datamover.protocols.swift.service import Name, SwiftService

PAGE = 1000
"""Names of one page; a service may limit it to 10,000."""


@dataclass(frozen=True, slots=True)
class SwiftEntry:
    """One entry of a listing."""

    name: str
    """Ends in "/" if it stands for all names that begin with it."""
    size: int = 0
    etag: str = ""


async def page(
    service: SwiftService, container: str, prefix: str, *, marker: str = "", most: int = PAGE, deep: bool = False
) -> list[SwiftEntry]:
    """Return the entries after ``marker`` that begin with ``prefix``, at most ``most``; [] if there is no container.

    With ``deep`` also those below directories. Raises Refused, Unreadable.
    """
    query = [("format", "json"), ("prefix", prefix), ("limit", str(most))]
    query += [] if deep else [("delimiter", "/")]
    query += [("marker", marker)] if marker else []
    try:
        answer = await service.ask("GET", Name(container), query)
    except Refused as refusal:
        if refusal.status == 404:
            return []
        raise
    return await service.run(_entries(answer.body)) if answer.body else []


async def every(service: SwiftService, container: str, prefix: str, *, deep: bool = False) -> list[SwiftEntry]:
    """Return all entries that begin with ``prefix``. Raises what ``page`` raises."""
    found: list[SwiftEntry] = []
    while True:
        # A page may be shorter than its limit; only an empty one is the last.
        more = await page(service, container, prefix, marker=found[-1].name if found else "", deep=deep)
        if not more or (found and more[-1].name <= found[-1].name):
            return found
        found += more


def _entries(body: bytes) -> Generator[None, None, list[SwiftEntry]]:
    told = yield from entries_in(body)
    return (yield from converted(told, _entry))


def _entry(told: dict[str, object]) -> SwiftEntry:
    subdirectory = told.get("subdir")
    if isinstance(subdirectory, str):
        return SwiftEntry(subdirectory)
    name, size = told.get("name"), told.get("bytes")
    if not isinstance(name, str) or not isinstance(size, int):
        raise Unreadable("an entry has no name or no size")
    return SwiftEntry(name, size, str(told.get("hash") or ""))
