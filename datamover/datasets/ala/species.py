"""Look up taxa in the Atlas: their names, and the whole answer."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from datamover.bounds.datasets import LONGEST_TAXON_NAME
from datamover.datasets.ala.answers import json_of, plain, words
from datamover.datasets.ala.client import AlaClient
from datamover.datasets.ala.section import AlaSection as Settings
from datamover.datasets.taxon import Taxon
from datamover.errors import DataMoverError, DatasetInvalid, DatasetNotFound, Scope, ServerError

LARGEST_BATCH = 100
"""Taxa that the Atlas accepts in one look-up."""
GATHERING = 0.1
"""Seconds for which look-ups are collected into one request."""


_SAFE = ":()+,.=@;$_!*'~-"


@dataclass(frozen=True, slots=True)
class AlaTaxon(Taxon):
    """A taxon's names, and the answer that they are from."""

    answer: bytes
    """The Atlas's answer, JSON."""


class Species:
    """Looks up taxa, singly or in batches."""

    def __init__(self, settings: Settings, client: AlaClient, clock: IReactorTime) -> None:
        self._url = settings.species_url
        self._client = client
        self._bulk = _Bulk(self._url, client, clock) if settings.species_lookup == "bulk" else None

    async def look_up(self, lsid: str) -> AlaTaxon:
        """Return a taxon; raises DatasetNotFound, quoting the Atlas, and what ``AlaClient`` raises."""
        return await (self._single(lsid) if self._bulk is None else self._bulk.look_up(lsid))

    async def _single(self, lsid: str) -> AlaTaxon:
        url = f"{self._url}/species/{quote(lsid, safe=_SAFE)}"
        head, body = await self._client.get(url)
        if head.status in (404, 406) or (head.status == 200 and json_of(body) is None):
            # Older installations have an HTML page here, or nothing, and the JSON at another URL.
            older, its_body = await self._client.get(f"{url}.json")
            if older.status == 200:
                head, body = older, its_body
        if head.status != 200:
            raise self._client.refusal(head, body, lsid)
        return _taxon(json_of(body), body, lsid)


class _Bulk:
    """Collects look-ups into one request for at most a hundred taxa."""

    def __init__(self, url: str, client: AlaClient, clock: IReactorTime) -> None:
        self._url = f"{url}/species/guids/bulklookup"
        self._client = client
        self._clock = clock
        self._waiting: dict[str, list[Deferred[AlaTaxon]]] = {}
        self._call: IDelayedCall | None = None

    async def look_up(self, lsid: str) -> AlaTaxon:
        waiting: Deferred[AlaTaxon] = Deferred()
        self._waiting.setdefault(lsid, []).append(waiting)
        if len(self._waiting) >= LARGEST_BATCH:
            self._ask()
        elif self._call is None:
            self._call = self._clock.callLater(GATHERING, self._ask)
        try:
            return await waiting
        except CancelledError:
            self._forget(lsid, waiting)
            raise

    def _forget(self, lsid: str, waiting: "Deferred[AlaTaxon]") -> None:
        others = self._waiting.get(lsid, [])
        if waiting in others:
            others.remove(waiting)
            if not others:
                del self._waiting[lsid]
        if not self._waiting:
            self._stop_gathering()

    def _stop_gathering(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _ask(self) -> None:
        self._stop_gathering()
        batch, self._waiting = self._waiting, {}
        Deferred.fromCoroutine(self._answer(batch))

    async def _answer(self, batch: "dict[str, list[Deferred[AlaTaxon]]]") -> None:
        try:
            found = await self._found(list(batch))
        except Exception as error:  # Every caller gets the error.
            for waiting in batch.values():
                _settle(waiting, error)
            return
        for lsid, waiting in batch.items():
            _settle(waiting, found[lsid])

    async def _found(self, lsids: list[str]) -> "dict[str, AlaTaxon | DataMoverError]":
        head, body = await self._client.post(self._url, lsids)
        if head.status != 200:
            raise self._client.refusal(head, body, lsids[0] if len(lsids) == 1 else "these taxa")
        told = json_of(body)
        entries = told.get("searchDTOList") if isinstance(told, dict) else told
        if not isinstance(entries, list):
            raise ServerError(f"ALA answered a look-up without a list of taxa{words(body)}", scope=Scope.SOURCE)
        named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("guid"), str)]
        by_guid = {entry["guid"]: entry for entry in named}
        # The Atlas answers an outdated name with the accepted one; then the position identifies it.
        in_order = dict(zip(lsids, entries, strict=True)) if len(entries) == len(lsids) else {}
        return {lsid: _judged(by_guid.get(lsid) or in_order.get(lsid), lsid) for lsid in lsids}


def _judged(entry: Any, lsid: str) -> AlaTaxon | DataMoverError:
    if entry is None:
        return DatasetNotFound(f"ALA does not know {lsid}: it answered the look-up with null")
    try:
        return _taxon(entry, None, lsid)
    except DataMoverError as error:
        return error


def _settle(waiting: "list[Deferred[AlaTaxon]]", outcome: AlaTaxon | Exception) -> None:
    for each in waiting:
        if each.called:
            continue
        if isinstance(outcome, AlaTaxon):
            each.callback(outcome)
        else:
            each.errback(Failure(outcome))  # type: ignore[no-untyped-call]


def _taxon(found: Any, answer: bytes | None, lsid: str) -> AlaTaxon:
    """Parse a taxon; ``answer`` is the whole body, None if it holds several taxa."""
    if not isinstance(found, dict):
        raise DatasetInvalid(f"ALA answered the look-up of {lsid} with something else than a JSON object")
    concept = found.get("taxonConcept") if isinstance(found.get("taxonConcept"), dict) else found
    name = _first(concept, "nameString", "scientificName", "name", "nameComplete")
    if name is None:
        raise DatasetNotFound(f"ALA does not know {lsid}: its answer holds no name of a taxon")
    if answer is None:
        # Half surrogate pairs have no UTF-8; their escapes are JSON.
        answer = json.dumps(found, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace")
    return AlaTaxon(name, _common_name(found), answer)


def _common_name(found: dict[str, Any]) -> str | None:
    names = found.get("commonNames")
    for entry in names if isinstance(names, list) else ():
        name = _first(entry, "nameString", "name") if isinstance(entry, dict) else None
        if name is not None:
            return name
    return _first(found, "commonNameSingle")


def _first(found: Any, *keys: str) -> str | None:
    for key in keys:
        value = found.get(key)
        if isinstance(value, str) and (name := plain(value, LONGEST_TAXON_NAME)):
            return name
    return None
