"""Requests to the Atlas: URLs, login, and the errors for refusals."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from twisted.web.http_headers import Headers

from datamover.bounds.servers import LARGEST_JSON
from datamover.datasets.ala.answers import refusal_of
from datamover.datasets.ala.section import AlaSection as Settings
from datamover.errors import DataMoverError
from datamover.protocols.base import Origin
from datamover.protocols.http import HttpClient
from datamover.protocols.http.answers import Head
from datamover.protocols.http.content import whole
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
    """Sends requests to the Atlas, with the token to the Atlas's own URLs."""

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        self._settings = settings
        self._http = http
        self._treq = http.treq()
        self._token = None if settings.token_file is None else SecretFile(settings.token_file)
        self._home = WebUrl.parse(settings.occurrences_url).origin

    async def get(self, url: str) -> tuple[Head, bytes]:
        """Return the answer to a GET, whatever its status.

        Raises AuthenticationFailed if the token cannot be read, DatasetInvalid for an answer of more than 1 MiB, and
        connection errors. Cancelling drops the connection.
        """
        return await whole(await self._treq.get(url, headers=self._headers(url)), LARGEST_JSON)

    async def post(self, url: str, body: Any) -> tuple[Head, bytes]:
        """Like ``get``, with a JSON body."""
        return await whole(await self._treq.post(url, json=body, headers=self._headers(url)), LARGEST_JSON)

    def origin(self, url: str, about: str) -> Origin:
        """Return the file at a URL; its errors quote the Atlas's message."""
        return self._http.origin(
            url, headers=self._login(url), refused=lambda head, body: self.refusal(head, body, about)
        )

    def refusal(self, head: Head, body: bytes, about: str) -> DataMoverError:
        """Return the error for an answer other than success; ``about`` names what was requested."""
        error = refusal_of(head, body, about)
        token = self._token.read() if self._token is not None else ""
        if not token or token not in error.message:
            return error
        return error.saying(error.message.replace(token, "…"))

    def download_url(self, how: str, lsid: str) -> str:
        """Return the URL that requests a taxon's records; ``how`` is "offline" or "index"."""
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
        """Return the URL of a search that finds the same records."""
        return f"{self._settings.occurrences_url}/occurrences/search?{urlencode({'q': query(lsid)}, quote_via=quote)}"

    def _headers(self, url: str) -> Headers:
        return Headers({name: [value] for name, value in {"Accept": "application/json", **self._login(url)}.items()})

    def _login(self, url: str) -> Mapping[str, str]:
        """Return the token as a header if the URL is the Atlas's, else {}."""
        if self._token is None or WebUrl.parse(url).origin != self._home:
            return {}
        return {"Authorization": f"Bearer {self._token.read()}"}


def query(lsid: str) -> str:
    """Return the search for a taxon; quotes an LSID that holds search operators."""
    simple = all(char.isalnum() or char in ":._-" for char in lsid)
    return f"lsid:{lsid}" if simple else f'lsid:"{lsid}"'
