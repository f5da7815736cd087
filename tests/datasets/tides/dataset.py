"""The tides at a station: ``tides://tides?station=NAME``."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import DeferredSemaphore

from datamover.datasets.base import Bench, MadeDataset, Subject
from datamover.datasets.declaration import Declaration
from datamover.errors import InvalidRequest
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SecretFile
from tests.datasets.tides.section import TidesSection

NAMES = ("tides.csv", "tides.json")


class Tides:
    """Satisfies ``datasets.base.Dataset``."""

    def __init__(self, section: TidesSection, http: HttpClient) -> None:
        self._url = section.url
        self._ticket = SecretFile(section.ticket_file)
        self._slots = _slots(section.at_once)
        self._http = http

    def subject(self, url: str) -> Subject:
        """See ``datasets.base.Dataset``."""
        parts = urlsplit(url)
        match parse_qs(parts.query):
            case {"station": [station], **rest} if station.isalpha() and parts.netloc == "tides" and not rest:
                return Subject("tides", station)
        raise InvalidRequest("expected the tides at a station such as tides://tides?station=Hobart")

    def names(self, subject: Subject) -> tuple[str, ...]:
        """See ``datasets.base.Dataset``."""
        return NAMES

    async def make(self, subject: Subject, bench: Bench) -> MadeDataset:
        """See ``datasets.base.Dataset``."""
        headers = {"Authorization": f"Bearer {self._ticket.read()}"}
        await self._slots.acquire()
        try:
            bench.tell("fetching the tides")
            fetched = await bench.fetch(self._http.origin(f"{self._url}/{subject.key}.csv", headers=headers), NAMES[0])
        finally:
            self._slots.release()
        description = bench.directory / NAMES[1]
        told = {"station": subject.key, "file": bench.targets[0], "digest": f"sha256:{fetched.sha256}"}
        await bench.call(description.write_text, json.dumps(told))
        return MadeDataset((fetched.path, description), {"size": fetched.size})

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        """Do nothing: the server prepares nothing."""


@cache
def _slots(at_once: int) -> DeferredSemaphore:
    """Return what the downloads of this process share, whichever configuration they began under."""
    return DeferredSemaphore(at_once)


DATASET = Declaration(
    "tides",
    TidesSection,
    services=lambda section: (section.url,),
    open=lambda section, http, reactor: Tides(section, http),
)
