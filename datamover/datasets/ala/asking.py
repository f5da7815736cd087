"""How the Atlas is asked: the URLs, the login, and the errors of what it refuses."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from datamover.datasets.ala.answers import refusal_of
from datamover.datasets.ala.section import AlaSection as Settings
from datamover.errors import DataMoverError
from datamover.protocols.base import Origin
from datamover.protocols.http import HttpClient
from datamover.protocols.http.call import Answer
from datamover.web.credentials import SecretFile
from datamover.web.url import WebUrl

FIELDS = (
    "decimalLongitude",
    "decimalLatitude",
    "coordinateUncertaintyInMeters",
    "eventDate",
    "year",
    "month",
    "speciesID",
    "scientificName",
)


class AlaClient:
    """Asks the Atlas, with the token where that belongs."""

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        self._settings = settings
        self._http = http
        self._token = None if settings.token_file is None else SecretFile(settings.token_file)
        self._home = WebUrl.parse(settings.occurrences_url).origin

    async def get(self, url: str) -> Answer:
        """Return what a URL answers, whatever its status; raises what breaks on the way."""
        return await self._http.call("GET", url, headers=self._headers(url, {"Accept": "application/json"}))

    async def post(self, url: str, body: Any) -> Answer:
        """Like ``get``, with a JSON body."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return await self._http.call(
            "POST", url, headers=self._headers(url, headers), body=json.dumps(body).encode("utf-8")
        )

    def origin(self, url: str, about: str) -> Origin:
        """Return the file at a URL; what the Atlas refuses is refused in its words."""
        return self._http.origin(
            url, headers=self._headers(url, {}), refused=lambda answer: self.refusal(answer, about)
        )

    def refusal(self, answer: Answer, about: str) -> DataMoverError:
        """Return the error of an answer that is no success; ``about`` is what was asked for."""
        error = refusal_of(answer, about)
        token = self._token.read() if self._token is not None else ""
        if not token or token not in error.message:
            return error
        return error.saying(error.message.replace(token, "…"))

    def download_url(self, how: str, lsid: str) -> str:
        """Return the URL that asks for a taxon's records; ``how`` is "offline" or "index"."""
        settings = self._settings
        parameters = {
            "q": query(lsid),
            "fields": ",".join(FIELDS),
            "qa": settings.quality,
            "reasonTypeId": settings.reason_type_id,
            "sourceTypeId": settings.source_type_id,
            "email": settings.email,
            "file": "data",
            "fileType": "csv",
            "emailNotify": "false",
            "dwcHeaders": "true",
        }
        return f"{settings.occurrences_url}/occurrences/{how}/download?{urlencode(parameters, quote_via=quote)}"

    def search_url(self, lsid: str) -> str:
        """Return the URL at which people and programs find the same records."""
        return f"{self._settings.occurrences_url}/occurrences/search?{urlencode({'q': query(lsid)}, quote_via=quote)}"

    def _headers(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        if self._token is None or WebUrl.parse(url).origin != self._home:
            return headers
        return {**headers, "Authorization": f"Bearer {self._token.read()}"}


def query(lsid: str) -> str:
    """Return the search for a taxon; an LSID with signs that mean something in a search is quoted."""
    simple = all(char.isalnum() or char in ":._-" for char in lsid)
    return f"lsid:{lsid}" if simple else f'lsid:"{lsid}"'
