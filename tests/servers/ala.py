"""A fake Atlas of Living Australia on a real socket, which answers as biocache-service and bie-index do, or fails.

    ala = FakeAla(reactor)
    await ala.start()
    ala.know(LSID)                                     # a taxon, with records
    ala.archive = records_zip(records_csv(ROWS))       # the content of downloads
    ala.fail("status", 503, times=2)                   # the next two polls are refused
    … ala.occurrences_url, ala.species_url …, ala.count("ask")
    await ala.stop()

It can fail, be slow, or answer otherwise at the steps "species", "bulk", "ask", "status", "download", "cancel" and
"direct". It runs on the reactor of the test; a service in another process can use it too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from twisted.internet.defer import Deferred

from tests.servers.ala_records import DWC, GOOD_ROWS, LABELS, LSID, records_csv, records_zip
from tests.servers.exchange import Connection, Exchange, Request
from tests.servers.web import File, Handler, Web

__all__ = ["DWC", "EMAIL", "GOOD_ROWS", "LABELS", "LSID", "FakeAla", "Prepared", "records_csv", "records_zip"]

EMAIL = "portal@example.org"
STEPS = ("species", "bulk", "ask", "status", "download", "cancel", "direct")


@dataclass(slots=True)
class Fault:
    """How a step fails."""

    status: int
    body: bytes
    headers: Sequence[tuple[str, str]]
    times: int | None
    """How often, None: always."""


@dataclass(slots=True)
class Prepared:
    """A download that is being prepared."""

    number: int
    lsid: str
    looks: int = 0
    cancelled: bool = False
    forgotten: bool = False
    """Its status is 404."""
    word: str | None = None
    """Its status, whatever would be usual."""


@dataclass(slots=True)
class _Settings:
    delays: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)


class FakeAla(Web):
    """The server; changes apply from the next request on."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.archive = records_zip(records_csv())
        """The content of every download."""
        self.total: int | None = 40_000
        """The number of records that it reports."""
        self.looks_until_ready = 2
        """Polls of a status before the download is finished; the first of them find it queued."""
        self.held = False
        """Never finish a download: every poll finds it running."""
        self.script: list[Mapping[str, Any]] = []
        """Answers to polls, instead of the usual ones, in order; the last one is repeated."""
        self.first_answer: Mapping[str, Any] | None = None
        """The answer to a request for records, instead of the usual."""
        self.leave_out_nulls = False
        """Leave out what is null, as some versions do."""
        self.json_suffix = False
        """Be an older version: taxa are only at ``/species/<LSID>.json``."""
        self.registered = {EMAIL}
        self.token: str | None = None
        """A token that must come with every request for records."""
        self.most_asked: int | None = None
        """Requests for records that an address may make (403 after that)."""
        self.taxa: dict[str, Mapping[str, Any]] = {}
        self.downloads: list[Prepared] = []
        self.steps: list[tuple[str, Request]] = []
        """Every request with its step, oldest first."""
        self._set = _Settings()

    @property
    def occurrences_url(self) -> str:
        return f"{self.url}/ws"

    @property
    def species_url(self) -> str:
        return f"{self.url}/bie/ws"

    def know(
        self, lsid: str = LSID, name: str = "Macropus rufus", common: str | None = "Red Kangaroo", **more: Any
    ) -> None:
        """Make a taxon known."""
        self.taxa[lsid] = {"name": name, "common": common, **more}

    def fail(
        self,
        step: str,
        status: int,
        message: str | bytes = "it went wrong",
        *,
        times: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Refuse a step with a message (JSON as ALA has it, bytes: as they are), so many ``times`` or always."""
        body = message if isinstance(message, bytes) else json.dumps({"message": message}).encode("utf-8")
        assert step in STEPS
        self._set.faults.setdefault(step, []).append(Fault(status, body, headers, times))

    def delay(self, step: str, seconds: float) -> None:
        """Answer a step only after so many seconds."""
        self._set.delays[step] = seconds

    def handle(self, step: str, handler: Handler) -> None:
        """Answer a step by a handler (``tests.servers.web``)."""
        self._set.handlers[step] = handler

    def heal(self) -> None:
        """Remove every fault, delay and handler."""
        self._set = _Settings()

    def count(self, step: str) -> int:
        """Return how often a step was requested."""
        return len(self.of(step))

    def of(self, step: str) -> list[Request]:
        """Return the requests of a step, oldest first."""
        return [request for name, request in self.steps if name == step]

    # For its connections ------------------------------------------------------------------------------------------

    def serve(self, connection: Connection, request: Request) -> None:
        self.requests.append(request)
        step, rest = self._step(request.path)
        self.steps.append((step, request))
        Deferred.fromCoroutine(self._answer(step, rest, Exchange(connection, request, self._reactor)))

    def _step(self, path: str) -> tuple[str, str]:
        for step, prefix in (
            ("ask", "/ws/occurrences/offline/download"),
            ("status", "/ws/occurrences/offline/status/"),
            ("cancel", "/ws/occurrences/offline/cancel/"),
            ("direct", "/ws/occurrences/index/download"),
            ("download", "/downloads/"),
            ("bulk", "/bie/ws/species/guids/bulklookup"),
            ("species", "/bie/ws/species/"),
        ):
            if path.startswith(prefix):
                return step, unquote(path.removeprefix(prefix))
        return "other", path

    async def _answer(self, step: str, rest: str, exchange: Exchange) -> None:
        if step in self._set.delays:
            await exchange.pause(self._set.delays[step])
        fault = self._fault(step)
        if fault is not None:
            exchange.answer(fault.status, fault.headers, fault.body)
        elif step in self._set.handlers:
            found = self._set.handlers[step](exchange)
            if found is not None:
                await found
        else:
            usual = getattr(self, f"_{step}", None)
            if usual is None:
                _send_json(exchange, 404, {"message": "No such place"})
            else:
                usual(exchange, rest)

    def _fault(self, step: str) -> Fault | None:
        for fault in self._set.faults.get(step, []):
            if fault.times is None or fault.times > 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    # The steps ----------------------------------------------------------------------------------------------------

    def _species(self, exchange: Exchange, rest: str) -> None:
        lsid = rest.removesuffix(".json") if self.json_suffix else rest
        taxon = self.taxa.get(lsid)
        if taxon is None or (self.json_suffix and lsid == rest):
            _send_json(exchange, 404, {"message": f"{rest} not found", "error": "404"})
            return
        common = taxon["common"]
        concept = {
            "guid": lsid,
            "nameString": taxon["name"],
            "nameComplete": f"{taxon['name']} (Desmarest, 1822)",
            "author": "(Desmarest, 1822)",
            "rankString": "species",
        }
        names: Any = taxon.get("names", [{"nameString": common, "language": "en"}] if common else None)
        _send_json(exchange, 200, {"taxonConcept": concept, "commonNames": names, "synonyms": []})

    def _bulk(self, exchange: Exchange, rest: str) -> None:
        lsids = json.loads(exchange.request.body)
        if exchange.request.method != "POST" or not isinstance(lsids, list) or len(lsids) > 100:
            _send_json(exchange, 400, {"message": "a list of at most 100 guids is expected"})
            return
        entries: list[Any] = []
        for lsid in lsids:
            taxon = self.taxa.get(lsid)
            entries.append(
                taxon
                and {
                    "guid": lsid,
                    "name": taxon["name"],
                    "scientificName": taxon["name"],
                    "nameComplete": f"{taxon['name']} (Desmarest, 1822)",
                    "commonNameSingle": taxon["common"],
                    "rank": "species",
                }
            )
        _send_json(exchange, 200, {"searchDTOList": entries})

    def _ask(self, exchange: Exchange, rest: str) -> None:
        if not self._admitted(exchange, "ask"):
            return
        prepared = Prepared(len(self.downloads) + 1, _parameter(exchange.request, "q").removeprefix("lsid:").strip('"'))
        self.downloads.append(prepared)
        _send_json(exchange, 200, self.first_answer if self.first_answer is not None else self._state(prepared))

    def _status(self, exchange: Exchange, rest: str) -> None:
        prepared = self._found(rest)
        if prepared is None or prepared.forgotten:
            _send_json(exchange, 404, {"message": "The download was not found"})
            return
        prepared.looks += 1
        if prepared.word is not None:
            _send_json(exchange, 200, {"status": prepared.word})
        elif self.script:
            _send_json(exchange, 200, self.script[min(prepared.looks, len(self.script)) - 1])
        else:
            _send_json(exchange, 200, self._state(prepared))

    def _cancel(self, exchange: Exchange, rest: str) -> None:
        prepared = self._found(rest)
        if prepared is None:
            _send_json(exchange, 404, {"message": "The download was not found"})
            return
        prepared.cancelled = True
        _send_json(exchange, 200, {"status": "cancelled"})

    def _download(self, exchange: Exchange, rest: str) -> None:
        File(self.archive, etag=f'"{len(self.archive)}"')(exchange)

    def _direct(self, exchange: Exchange, rest: str) -> None:
        if self._admitted(exchange, "direct"):
            File(self.archive, chunked=True)(exchange)

    def _admitted(self, exchange: Exchange, step: str) -> bool:
        request = exchange.request
        email = _parameter(request, "email")
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            _send_json(exchange, 401, {"message": "Unauthorized"})
        elif not _parameter(request, "q") or "@" not in email:
            _send_json(exchange, 400, {"message": "Unable to download: a query and a valid email are required"})
        elif email not in self.registered:
            _send_json(exchange, 403, {"message": f"Unable to download: {email} is not registered"})
        elif self.most_asked is not None and self.count(step) > self.most_asked:
            _send_json(exchange, 403, {"message": "Too many requests: 5 in 300 s"})
        else:
            return True
        return False

    def _found(self, number: str) -> Prepared | None:
        return next((each for each in self.downloads if str(each.number) == number), None)

    def _state(self, prepared: Prepared) -> Mapping[str, Any]:
        answer: dict[str, Any] = {
            "status": "inQueue",
            "totalRecords": self.total,
            "records": None,
            "queueSize": None,
            "statusUrl": f"{self.url}/ws/occurrences/offline/status/{prepared.number}",
            "cancelUrl": f"{self.url}/ws/occurrences/offline/cancel/{prepared.number}",
            "searchUrl": f"{self.url}/occurrences/search?q=lsid:{prepared.lsid}",
            "downloadUrl": None,
            "message": None,
            "error": None,
        }
        if prepared.cancelled:
            answer |= {"status": "cancelled"}
        elif self.held or 0 < prepared.looks < self.looks_until_ready:
            answer |= {"status": "running", "records": 12_000}
        elif prepared.looks >= self.looks_until_ready:
            answer |= {"status": "finished", "downloadUrl": f"{self.url}/downloads/{prepared.number}/data.zip"}
        else:
            answer |= {"queueSize": 3}
        return {key: value for key, value in answer.items() if value is not None} if self.leave_out_nulls else answer


def _parameter(request: Request, name: str) -> str:
    return parse_qs(urlsplit(request.target).query).get(name, [""])[0]


def _send_json(exchange: Exchange, status: int, answer: Any) -> None:
    exchange.answer(status, [("Content-Type", "application/json;charset=UTF-8")], json.dumps(answer).encode("utf-8"))
