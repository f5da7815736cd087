"""What GBIF's answers say. Pure: nothing is asked here.

Every field may be missing or of another type than it should be; what must be there and is not makes a named error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datamover.datasets.gbif.records import text_of
from datamover.errors import DataMoverError, DatasetInvalid, DatasetNotFound, Scope, ServerError
from datamover.protocols.http.answers import failure_of
from datamover.protocols.http.call import Answer
from datamover.web.amounts import MOST

LONGEST_WORDS = 300
ENGLISH = "eng"


@dataclass(frozen=True, slots=True)
class Taxon:
    """What GBIF calls a taxon."""

    name: str
    """Without its author where GBIF has it so: "Macropus rufus"."""
    common_name: str | None

    @property
    def shown(self) -> str:
        return f"{self.common_name} ({self.name})" if self.common_name else self.name


def refusal_of(answer: Answer, about: str) -> DataMoverError:
    """Return the error that a status other than 200 stands for, in GBIF's words; ``about`` is what was asked for."""
    usual = failure_of(answer.head)
    told = words(answer)
    if answer.status in (404, 410):
        return DatasetNotFound(f"GBIF does not know {about}: {answer.head.answered}{told}")
    if answer.status == 400:
        return DatasetInvalid(f"GBIF refused to tell of {about}: {answer.head.answered}{told}")
    return usual.saying(f"{usual.message}{told}", scope=Scope.SOURCE)


def words(answer: Answer) -> str:
    """Return what an error's body says, quoted and ready to be appended; "" where that is nothing for people."""
    text = answer.body[: 64 * 1024].decode("utf-8", "replace").strip()
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


def object_of(answer: Answer) -> Mapping[str, Any]:
    """Return an answer's JSON object; raises ServerError for anything else, since a page of errors is none."""
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise not_json(answer)
    return found


def not_json(answer: Answer) -> ServerError:
    """Return the error for an answer of status 200 that GBIF itself would not give: a page of a proxy, a notice."""
    return ServerError(f"{answer.url.told} answered with something else than a JSON object", scope=Scope.SOURCE)


def count_of(answer: Answer) -> int:
    """Return how many records a search found."""
    count = object_of(answer).get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ServerError(f"{answer.url.told} does not say how many records there are (count)", scope=Scope.SOURCE)
    if count > MOST:
        told = f"{answer.url.told} tells of more records than there can be (count)"
        raise ServerError(told, scope=Scope.SOURCE, retryable=False)
    return count


def taxon_of(answer: Answer) -> Taxon:
    """Return the names in GBIF's answer for a taxon; raises DatasetInvalid where there is none."""
    found = object_of(answer)
    name = text_of(found.get("canonicalName")) or text_of(found.get("scientificName"))
    if not name:
        raise DatasetInvalid(f"GBIF has no name for the taxon: {answer.url.told} holds no scientificName")
    return Taxon(name, text_of(found.get("vernacularName")) or None)


def common_name_of(answer: Answer) -> str | None:
    """Return the English name that GBIF prefers, else its first English one, from a list of vernacular names."""
    results = object_of(answer).get("results")
    names: list[tuple[bool, int, str]] = []
    for index, entry in enumerate(results if isinstance(results, list) else ()):
        if isinstance(entry, dict) and entry.get("language") == ENGLISH:
            name = text_of(entry.get("vernacularName"))
            names += [(entry.get("preferred") is not True, index, name)] if name else []
    return min(names)[2] if names else None
