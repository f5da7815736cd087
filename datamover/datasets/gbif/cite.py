"""``python -m datamover.datasets.gbif.cite``: write the file of citations from GBIF's answers for datasets.

Runs in a process of its own, since an answer may be long; ``CitationsRequest`` is its request.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamover.datasets.child import Report, serve
from datamover.datasets.gbif.records import text_of
from datamover.errors import Scope, ServerError


@dataclass(frozen=True, slots=True)
class CitationsRequest:
    """The files to read and write."""

    answers: str
    """A file with one dataset a line: its key, and after a space GBIF's answer, if it knows the dataset."""
    output: str


def work(told: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Write one paragraph for each citation, sorted; returns the file's ``size`` and ``sha256``.

    Raises ServerError for an answer that is no JSON object.
    """
    request = CitationsRequest(**told)
    citations: set[str] = set()
    with Path(request.answers).open("rb") as lines:
        for line in lines:
            key, _, answer = line.strip().partition(b" ")
            citations.add(citation_of(key.decode("ascii"), answer))
    data = "\n".join(f"{citation}\n" for citation in sorted(citations)).encode("utf-8")
    Path(request.output).write_bytes(data)
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def citation_of(key: str, answer: bytes) -> str:
    """Return the citation of a dataset in one line: as GBIF gives it, else its title and key.

    ``answer`` is GBIF's for the dataset, b"" if GBIF does not know it any more.
    """
    if not answer:
        return f"GBIF dataset {key}, which GBIF does not know any more."
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ServerError(f"GBIF's answer for dataset {key} is not a JSON object", scope=Scope.SOURCE)
    citation = found.get("citation")
    text = text_of(citation.get("text")) if isinstance(citation, dict) else ""
    return text or f"{text_of(found.get('title')) or 'Untitled'}. GBIF dataset {key}."


if __name__ == "__main__":
    serve(work)
