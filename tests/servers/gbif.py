"""A fake of GBIF's API on a real socket, with the taxa that a test defines; it fails as configured.

    gbif = Gbif(reactor)
    gbif.taxon("2440012", "Macropus rufus", records=[record(1, 133.9, -23.7)])
    gbif.fault("/occurrence/search", status(429, [("Retry-After", "0")]))
    await gbif.start()
    … gbif.url …, gbif.asked("/occurrence/search"), gbif.busiest …
    await gbif.stop()

A page has at most 300 records, whatever is requested; records beyond 100,000 are not served.
"""

import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.web import Exchange, Handler, Request, Web, status

LARGEST_PAGE = 300
MOST = 100_000
SPATIAL = frozenset({"ZERO_COORDINATE", "COORDINATE_INVALID", "COORDINATE_OUT_OF_RANGE", "COUNTRY_COORDINATE_MISMATCH"})
"""The issues that set hasGeospatialIssue."""
DATASET = "50c9509d-22c7-4a22-a47d-8c48425ef4a7"

Change = Callable[[dict[str, Any]], object]


def record(key: int, lon: Any, lat: Any, *issues: str, dataset: str = DATASET, **fields: Any) -> dict[str, Any]:
    """Return a record as a search returns it."""
    return {
        "key": key,
        "datasetKey": dataset,
        "occurrenceStatus": "PRESENT",
        "scientificName": "Macropus rufus (Desmarest, 1822)",
        "species": "Macropus rufus",
        "decimalLongitude": lon,
        "decimalLatitude": lat,
        "coordinateUncertaintyInMeters": 30.0,
        "eventDate": "2021-03-07",
        "year": 2021,
        "month": 3,
        "issues": list(issues),
        "license": "http://creativecommons.org/licenses/by/4.0/legalcode",
        **fields,
    }


class Gbif:
    """The server; listens on 127.0.0.1, on a free port."""

    def __init__(self, reactor: Any, *, delay: float = 0.0) -> None:
        self.busiest = 0
        """The peak of concurrent requests."""
        self._delay = delay
        self._busy = 0
        self._web = Web(reactor)
        self._proper: dict[str, Handler] = {}
        self._faults: dict[str, deque[Handler]] = {}
        self._records: dict[str, Sequence[dict[str, Any]]] = {}
        self._results: dict[tuple[str, bool, bool], Sequence[dict[str, Any]]] = {}
        self._change: Change = lambda page: None
        self._serve("/occurrence/search", self._search)

    @property
    def url(self) -> str:
        return f"{self._web.url}/v1"

    @property
    def requests(self) -> list[Request]:
        return self._web.requests

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the parameters of the requests for ``path``, oldest first."""
        return [_parameters(request) for request in self._web.asked(f"/v1{path}")]

    def taxon(
        self,
        key: str,
        name: str,
        *,
        records: Sequence[dict[str, Any]] = (),
        names: Sequence[dict[str, Any]] = (),
        **fields: Any,
    ) -> None:
        """Add a taxon, its records and its vernacular names."""
        species = {"key": int(key), "scientificName": f"{name} (Desmarest, 1822)", "canonicalName": name, **fields}
        self._serve(f"/species/{key}", lambda exchange: _json(exchange, species))
        self._serve(f"/species/{key}/vernacularNames", lambda exchange: _json(exchange, {"results": list(names)}))
        self._records[key] = records
        self._results.clear()

    def dataset(self, key: str, citation: str | None, **fields: Any) -> None:
        """Add a dataset."""
        content = {"key": key, "title": "Sightings", **fields}
        if citation is not None:
            content["citation"] = {"text": citation}
        self._serve(f"/dataset/{key}", lambda exchange: _json(exchange, content))

    def fault(self, path: str, *handlers: Handler) -> None:
        """Answer the next requests for ``path`` by these handlers, one after the other, then properly again."""
        if path not in self._proper:
            self._serve(path, status(404))
        self._faults.setdefault(path, deque()).extend(handlers)

    def pages(self, change: Change) -> None:
        """Change the pages of searches before they are sent."""
        self._change = change

    async def start(self) -> None:
        await self._web.start()

    async def stop(self) -> None:
        await self._web.stop()

    # Answers ------------------------------------------------------------------------------------------------------

    def _serve(self, path: str, proper: Handler) -> None:
        self._proper[path] = proper

        async def handler(exchange: Exchange) -> None:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            try:
                await exchange.pause(self._delay)
                faults = self._faults.get(path)
                answered = (faults.popleft() if faults else self._proper[path])(exchange)
                if isinstance(answered, Awaitable):
                    await answered
            finally:
                self._busy -= 1

        self._web.route(f"/v1{path}", handler)

    def _search(self, exchange: Exchange) -> None:
        asked = _parameters(exchange.request)
        found = self._found(
            asked.get("taxonKey", ""), asked.get("hasCoordinate") == "true", asked.get("hasGeospatialIssue") == "false"
        )
        offset, limit = int(asked.get("offset", "0")), min(int(asked.get("limit", "20")), LARGEST_PAGE)
        if offset + limit > MOST:
            exchange.answer(400, body=f"Max offset of {MOST + 1} exceeded: {offset} + {limit}".encode())
            return
        page = {
            "offset": offset,
            "limit": limit,
            "endOfRecords": offset + limit >= len(found),
            "count": len(found),
            "results": list(found[offset : offset + limit]),
            "facets": [],
        }
        self._change(page)
        _json(exchange, page)

    def _found(self, key: str, placed: bool, sound: bool) -> Sequence[dict[str, Any]]:
        if (key, placed, sound) not in self._results:
            self._results[key, placed, sound] = [
                one
                for one in self._records.get(key, ())
                if not (placed and not {"decimalLongitude", "decimalLatitude"} <= one.keys())
                and not (sound and SPATIAL & set(one["issues"]))
            ]
        return self._results[key, placed, sound]


def _json(exchange: Exchange, content: Any) -> None:
    exchange.answer(200, [("Content-Type", "application/json")], json.dumps(content, indent=1).encode("utf-8"))


def _parameters(request: Request) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(request.target).query).items()}
