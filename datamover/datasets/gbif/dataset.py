"""GBIF's occurrences of one taxon, cleaned, with its names and the citations: ``gbif://gbif?taxonKey=…``.

The pages of a search are written to one file as they come and cleaned in another process, so that the service never
parses them. A taxon with more records than a search returns (``MOST_GBIF_RECORDS``) is refused.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from datamover.bounds.datasets import LARGEST_GBIF_ANSWER, LONGEST_GBIF_KEY, MOST_GBIF_RECORDS
from datamover.bounds.servers import LARGEST_JSON
from datamover.datasets.base import Bench, MadeDataset, Subject, cleaning
from datamover.datasets.declaration import Declaration
from datamover.datasets.description import ATTRIBUTION, OCCURRENCE, DescribedFile, Description
from datamover.datasets.gbif import cite, clean
from datamover.datasets.gbif.answers import common_name_of, count_of, taxon_of
from datamover.datasets.gbif.client import GbifClient, Patience, in_order
from datamover.datasets.gbif.section import GbifSection
from datamover.datasets.taxon import Taxon
from datamover.errors import DatasetEmpty, DatasetInvalid, InvalidRequest
from datamover.protocols.http import HttpClient
from datamover.protocols.http.answers import Head

SCHEME = "gbif"
NAMES = ("gbif_occurrence.csv", "gbif_metadata.json", "gbif_citation.txt", "gbif_dataset.json")
SEARCH = "/occurrence/search"
PAGE = 300
"""Records in one answer, the most that GBIF returns."""

GONE = frozenset({404, 410})


class Gbif:
    """``datasets.base.Dataset`` of GBIF; one for a whole process, so that all requests share the limit."""

    def __init__(
        self,
        settings: GbifSection,
        http: HttpClient,
        clock: Any,
        wall: Callable[[], float],
        *,
        patience: Patience | None = None,
    ) -> None:
        """Prepare; ``wall`` returns POSIX seconds.

        ``http`` must be allowed to reach GBIF.
        """
        self._settings = settings
        self._wall = wall
        self._client = GbifClient(settings.url, http.treq(), clock, patience)

    def subject(self, url: str) -> Subject:
        """Read ``gbif://gbif?taxonKey=<number>``; raises InvalidRequest."""
        expected = InvalidRequest("expected a GBIF taxon such as gbif://gbif?taxonKey=2440012")
        try:
            parts = urlsplit(url.strip())
            fields = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, max_num_fields=2)
        except ValueError:
            raise expected from None
        whole = (parts.scheme, parts.netloc.lower(), parts.fragment) == (SCHEME, "gbif", "") and parts.path in ("", "/")
        if not whole or len(fields) != 1 or fields[0][0] != "taxonKey":
            raise expected
        key = fields[0][1]
        if not (key.isascii() and key.isdigit() and len(key) <= LONGEST_GBIF_KEY) or key.startswith("0"):
            raise InvalidRequest(
                "the taxonKey of a GBIF taxon is a whole number above 0, as in gbif://gbif?taxonKey=2440012"
            )
        return Subject(SCHEME, key)

    def names(self, subject: Subject) -> tuple[str, ...]:
        """See ``datasets.base.Dataset``."""
        return NAMES

    async def make(self, subject: Subject, bench: Bench) -> MadeDataset:
        """See ``datasets.base.Dataset``.

        Raises DatasetInvalid for a taxon with more records than the search gives. Nothing is remembered: GBIF
        prepares nothing that a later attempt could continue.
        """
        occurrences, metadata, citations, description = paths = tuple(bench.directory / name for name in NAMES)
        bench.tell(f"GBIF: asking about taxon {subject.key}")
        moment = self._wall()
        taxon, answer = await self._taxon(subject, bench.owner)
        await bench.call(metadata.write_bytes, answer)
        count = await self._count(subject, taxon, bench.owner)
        cleaned, datasets = await self._occurrences(subject, taxon, count, occurrences, bench)
        cited = await self._citations(datasets, citations, bench)
        told = Description(
            subject=taxon.shown,
            source="GBIF",
            url=f"{self._settings.url}{SEARCH}?{urlencode(_sought(subject))}",
            doi=None,
            moment=moment,
            parts=(
                DescribedFile(bench.targets[0], OCCURRENCE, cleaned["size"], cleaned["sha256"]),
                DescribedFile(bench.targets[1], ATTRIBUTION, len(answer), sha256(answer).hexdigest()),
                DescribedFile(bench.targets[2], ATTRIBUTION, cited["size"], cited["sha256"]),
            ),
            count=cleaned["kept"],
            bounds=cleaned["bounds"],
            dropped=cleaned["dropped"],
        )
        await bench.call(description.write_bytes, told.encoded())
        details = {key: cleaned[key] for key in ("read", "kept", "dropped", "datasets")}
        return MadeDataset(paths, details)

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        """Do nothing: GBIF prepares nothing that could be cancelled."""

    # Requests -----------------------------------------------------------------------------------------------------

    async def _taxon(self, subject: Subject, owner: str) -> tuple[Taxon, bytes]:
        """Return the names of a taxon, and GBIF's answer for it, unchanged."""
        head, body = await self._client.ask(f"/species/{subject.key}", owner=owner, about=f"taxon {subject.key}")
        taxon = taxon_of(body, head.url)
        if taxon.common_name is None:
            answered, names = await self._client.ask(
                f"/species/{subject.key}/vernacularNames",
                {"limit": "100"},
                owner=owner,
                about=f"the names of taxon {subject.key}",
                expected=GONE,
            )
            if answered.status == 200:
                taxon = replace(taxon, common_name=common_name_of(names, answered.url))
        return taxon, body

    async def _count(self, subject: Subject, taxon: Taxon, owner: str) -> int:
        """Return the number of records to fetch; raises DatasetEmpty, DatasetInvalid."""
        head, body = await self._search(subject, owner, 0, 0)
        count = count_of(body, head.url)
        if count == 0:
            raise DatasetEmpty(f"GBIF has no occurrences of {taxon.name} (taxon {subject.key}) with sound coordinates")
        if count > MOST_GBIF_RECORDS:
            raise DatasetInvalid(
                f"GBIF has {count:,} occurrences of {taxon.name} (taxon {subject.key}), and its search gives at most "
                f"{MOST_GBIF_RECORDS:,}: ask for the taxa below it one by one, or order a download at GBIF and move it "
                "by its URL"
            )
        return count

    async def _search(self, subject: Subject, owner: str, limit: int, offset: int) -> tuple[Head, bytes]:
        return await self._client.ask(
            SEARCH,
            {**_sought(subject), "limit": str(limit), "offset": str(offset)},
            owner=owner,
            about=f"occurrences of taxon {subject.key}",
            limit=LARGEST_GBIF_ANSWER if limit else LARGEST_JSON,
        )

    async def _occurrences(
        self, subject: Subject, taxon: Taxon, count: int, output: Path, bench: Bench
    ) -> tuple[Mapping[str, Any], list[str]]:
        """Fetch and clean; return the cleaning's result, and the keys of the datasets that the rows are from."""
        pages, keys = bench.directory / "pages", bench.directory / "keys"
        await self._pages(subject, count, pages, bench)
        bench.tell("waiting to be cleaned")
        request = clean.PagesRequest(
            str(pages), PAGE, count, str(output), str(keys), taxon.name, self._settings.bad_issues
        )
        cleaned = await bench.run(clean.__name__, asdict(request), lambda told: bench.tell(cleaning(told)))
        datasets = (await bench.call(keys.read_text, "ascii")).splitlines()
        await bench.call(pages.unlink)
        await bench.call(keys.unlink)
        return cleaned, datasets

    async def _pages(self, subject: Subject, count: int, pages: Path, bench: Bench) -> None:
        """Write the pages, one a line, in order. The other process parses them; here that would take too long."""

        async def ask(offset: int) -> tuple[Head, bytes]:
            return await self._search(subject, bench.owner, min(PAGE, MOST_GBIF_RECORDS - offset), offset)

        async def take(offset: int, answer: tuple[Head, bytes]) -> None:
            await bench.call(_append, pages, _line(answer[1]))
            bench.tell(f"GBIF: {min(offset + PAGE, count):,} of {count:,} records")

        bench.tell(f"GBIF: 0 of {count:,} records")
        await in_order(ask, range(0, count, PAGE), take)

    async def _citations(self, datasets: Sequence[str], output: Path, bench: Bench) -> Mapping[str, Any]:
        """Write the citations of these datasets; return the process's result."""
        answers = bench.directory / "answers"
        asked = 0

        async def ask(key: str) -> tuple[Head, bytes]:
            return await self._client.ask(
                f"/dataset/{key}", owner=bench.owner, about=f"dataset {key}", expected=GONE, limit=LARGEST_GBIF_ANSWER
            )

        async def take(key: str, answer: tuple[Head, bytes]) -> None:
            nonlocal asked
            asked += 1
            head, body = answer
            line = b"" if head.status in GONE else _line(body)
            await bench.call(_append, answers, key.encode("ascii") + b" " + line)
            bench.tell(f"GBIF: {asked:,} of {len(datasets):,} citations")

        await bench.call(answers.touch)
        await in_order(ask, datasets, take)
        request = cite.CitationsRequest(str(answers), str(output))
        cited = await bench.run(cite.__name__, asdict(request), lambda _: None)
        await bench.call(answers.unlink)
        return cited


def _sought(subject: Subject) -> dict[str, str]:
    return {"taxonKey": subject.key, "hasCoordinate": "true", "hasGeospatialIssue": "false"}


def _line(body: bytes) -> bytes:
    """Return JSON in one line; line breaks in JSON can only be between values."""
    return body.replace(b"\r", b" ").replace(b"\n", b" ").strip()


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line + b"\n")


DATASET = Declaration(
    SCHEME,
    GbifSection,
    services=lambda section: (section.url,),
    open=lambda section, http, reactor: Gbif(section, http, reactor, time.time),
)
