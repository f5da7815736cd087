"""Parse GBIF's answers. Pure.

Any field may be missing or of another type than documented; if a required one is, an error names it.
"""

import json
from collections.abc import Mapping
from typing import Any

from datamover.bounds.calls import LARGEST_FILE
from datamover.bounds.datasets import LONGEST_WORDS
from datamover.bounds.servers import LARGEST_PAGE
from datamover.datasets.gbif.records import text_of
from datamover.datasets.taxon import Taxon
from datamover.errors import DataMoverError, DatasetInvalid, DatasetNotFound, Scope, ServerError
from datamover.protocols.http.answers import Head, failure_of
from datamover.web.url import WebUrl

ENGLISH = "eng"


def refusal_of(head: Head, body: bytes, about: str) -> DataMoverError:
    """Return the error for an answer whose status is not 200, quoting GBIF; ``about`` names what was requested."""
    usual = failure_of(head)
    told = words(body)
    if head.status in (404, 410):
        return DatasetNotFound(f"GBIF does not know {about}: {head.answered}{told}")
    if head.status == 400:
        return DatasetInvalid(f"GBIF refused to tell of {about}: {head.answered}{told}")
    return usual.saying(f"{usual.message}{told}", scope=Scope.SOURCE)


def words(body: bytes) -> str:
    """Return the message in an error's body, quoted, to append to a sentence; "" if there is none."""
    text = body[:LARGEST_PAGE].decode("utf-8", "replace").strip()
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        text = next((told[key] for key in ("message", "error", "reason") if isinstance(told.get(key), str)), "")
    elif text.startswith("<"):
        return ""
    line = text_of(text)
    if len(line) > LONGEST_WORDS:
        line = line[: LONGEST_WORDS - 1] + "…"
    return f': "{line}"' if line else ""


def object_of(body: bytes, url: WebUrl) -> Mapping[str, Any]:
    """Return the JSON object that ``url`` answered; raises ServerError for anything else, such as an error page."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise not_json(url)
    return found


def not_json(url: WebUrl) -> ServerError:
    """Return the error for a 200 that is not JSON, such as a proxy's page."""
    return ServerError(f"{url.told} answered with something else than a JSON object", scope=Scope.SOURCE)


def count_of(body: bytes, url: WebUrl) -> int:
    """Return the number of records that a search found."""
    count = object_of(body, url).get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ServerError(f"{url.told} does not say how many records there are (count)", scope=Scope.SOURCE)
    if count > LARGEST_FILE:
        told = f"{url.told} tells of more records than there can be (count)"
        raise ServerError(told, scope=Scope.SOURCE, retryable=False)
    return count


def taxon_of(body: bytes, url: WebUrl) -> Taxon:
    """Return the names in GBIF's answer for a taxon; raises DatasetInvalid if there is none."""
    found = object_of(body, url)
    name = text_of(found.get("canonicalName")) or text_of(found.get("scientificName"))
    if not name:
        raise DatasetInvalid(f"GBIF has no name for the taxon: {url.told} holds no scientificName")
    return Taxon(name, text_of(found.get("vernacularName")) or None)


def common_name_of(body: bytes, url: WebUrl) -> str | None:
    """Return GBIF's preferred English name from a list of vernacular names, else the first English one, else None."""
    results = object_of(body, url).get("results")
    names: list[tuple[bool, int, str]] = []
    for index, entry in enumerate(results if isinstance(results, list) else ()):
        if isinstance(entry, dict) and entry.get("language") == ENGLISH:
            name = text_of(entry.get("vernacularName"))
            names += [(entry.get("preferred") is not True, index, name)] if name else []
    return min(names)[2] if names else None
