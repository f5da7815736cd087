"""The Atlas's occurrences of a taxon as a dataset: look the taxon up, fetch the records, clean and describe them."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from twisted.internet.interfaces import IReactorTime

from datamover.datasets.ala.clean import ZipRequest
from datamover.datasets.ala.client import AlaClient
from datamover.datasets.ala.lsid import SCHEME, subject_of
from datamover.datasets.ala.offline import Offline
from datamover.datasets.ala.section import AlaSection as Settings
from datamover.datasets.ala.species import AlaTaxon, Species
from datamover.datasets.base import Bench, MadeDataset, Subject, cleaning
from datamover.datasets.declaration import Declaration
from datamover.datasets.description import ATTRIBUTION, OCCURRENCE, DescribedFile, Description
from datamover.errors import DatasetEmpty, DatasetInvalid, DatasetNotFound
from datamover.protocols.http import HttpClient

NAMES = ("ala_occurrence.csv", "ala_metadata.json", "ala_dataset.json")
ARCHIVE = "records.zip"
CLEANER = "datamover.datasets.ala.clean"


class Ala:
    """``ala://ala?lsid=<LSID>``; satisfies ``datasets.base.Dataset``."""

    def __init__(self, settings: Settings, http: HttpClient, clock: IReactorTime, wall: Callable[[], float]) -> None:
        """Prepare; ``http`` must trust the origins of ``settings``' URLs, ``wall`` returns POSIX seconds."""
        self._settings = settings
        self._client = AlaClient(settings, http)
        self._species = Species(settings, self._client, clock)
        self._offline = Offline(settings, self._client, clock, wall)
        self._wall = wall

    def subject(self, url: str) -> Subject:
        """See ``datasets.base.Dataset``."""
        return subject_of(url)

    def names(self, subject: Subject) -> tuple[str, ...]:
        """See ``datasets.base.Dataset``."""
        return NAMES

    async def make(self, subject: Subject, bench: Bench) -> MadeDataset:
        """See ``datasets.base.Dataset``; a request that the bench remembers is continued."""
        bench.tell("ALA: looking up the taxon")
        taxon = await self._species.look_up(subject.key)
        moment = self._wall()
        url = await self._fetch(subject.key, bench)
        try:
            cleaned = await self._clean(bench)
        except (DatasetInvalid, DatasetEmpty):
            # The next attempt asks for the records anew.
            await bench.remember({})
            raise
        (bench.directory / ARCHIVE).unlink()
        paths = tuple(bench.directory / name for name in NAMES)
        paths[1].write_bytes(taxon.answer)
        paths[2].write_bytes(_described(taxon, url, moment, bench.targets, cleaned))
        details = {key: cleaned[key] for key in ("read", "kept", "dropped")}
        return MadeDataset(paths, {**details, **({"doi": cleaned["doi"]} if cleaned["doi"] else {})})

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        """See ``datasets.base.Dataset``."""
        await self._offline.abandon(memory)

    # The steps ------------------------------------------------------------------------------------------------

    async def _fetch(self, lsid: str, bench: Bench) -> str:
        """Fetch the records; return the URL of a search that finds them again."""
        if self._settings.mode == "direct":
            bench.tell("ALA: asking for the records")
            await bench.fetch(self._client.origin(self._client.download_url("index", lsid), lsid), ARCHIVE)
            return self._client.search_url(lsid)
        while True:
            asked, recalled = await self._offline.ready(lsid, bench)
            bench.tell("ALA: fetching the records")
            try:
                await bench.fetch(self._client.origin(asked.download_url or "", "the download any more"), ARCHIVE)
            except DatasetNotFound:
                await bench.remember({})
                if not recalled:
                    raise
            else:
                return asked.search_url or self._client.search_url(lsid)

    async def _clean(self, bench: Bench) -> Mapping[str, Any]:
        settings = self._settings
        request = ZipRequest(
            archive=str(bench.directory / ARCHIVE),
            output=str(bench.directory / NAMES[0]),
            headers=dict(settings.headers),
            good_flags=list(settings.good_flags),
            max_unpacked=settings.max_unpacked,
            max_ratio=settings.max_ratio,
        )
        bench.tell("waiting to be cleaned")
        return await bench.run(CLEANER, asdict(request), lambda told: bench.tell(cleaning(told)))


def _described(taxon: AlaTaxon, url: str, moment: float, targets: tuple[str, ...], cleaned: Mapping[str, Any]) -> bytes:
    metadata = hashlib.sha256(taxon.answer).hexdigest()
    return Description(
        subject=taxon.shown,
        source="ALA",
        url=url,
        doi=cleaned["doi"],
        moment=moment,
        parts=(
            DescribedFile(targets[0], OCCURRENCE, cleaned["size"], cleaned["sha256"]),
            DescribedFile(targets[1], ATTRIBUTION, len(taxon.answer), metadata),
        ),
        count=cleaned["kept"],
        bounds=cleaned["bounds"],
        dropped=cleaned["dropped"],
    ).encoded()


DATASET = Declaration(
    SCHEME,
    Settings,
    services=lambda section: (section.occurrences_url, section.species_url),
    open=lambda section, http, reactor: Ala(section, http, reactor, time.time),
)
