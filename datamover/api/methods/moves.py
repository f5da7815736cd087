"""Make one job of the parameters of the original's ``move``, in every form that it has had. Pure.

A refusal has the original's message (``Rejected``), which its clients show; refusals that the original did not have
raise the errors of ``jobs.submit``.
"""

import posixpath
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from datamover.api.context import Caller
from datamover.bounds.calls import LONGEST_LSID, LONGEST_PATH, MOST_SOURCES
from datamover.errors import RequestError, RequestTooLarge
from datamover.jobs.targets import Targets
from datamover.jobs.values import DatasetSource, Naming, NewFile, NewJob, Overwrite, SourceRef
from datamover.registry.destinations import Registry
from datamover.requests import coercion
from datamover.requests.coercion import array, struct, text, told, yes_or_no
from datamover.requests.files import Rules, place_source, web_source
from datamover.text.quoting import cut
from datamover.web.paths import check_path, is_into

NO_ALA = "ALA sources are not configured"

_PULLED = (".csv", ".json", ".dataset.json")
"""File name endings, after the LSID, of the occurrences, the species' metadata and the dataset's description."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LSID = re.compile(r"urn:lsid:[^:\s]+:[^:\s]+:[^:\s]+(:[^:\s]+)?", re.IGNORECASE)
_WEB = re.compile(r"[^:]*://(?:[^/?#]*@)?([^/?#:]*)[^/?#]*(.?)", re.DOTALL)
"""The host, and the first character after host and port."""
_SCP = re.compile(r"(?:([^/@]*(?:@[^/@]*)*)@)?(\[[^\]/]*\]|[^/:@]*)(?::\d*)?(/.*)?", re.DOTALL)


class Rejected(RequestError):
    """A refusal with a message of the original."""


def missing(what: str) -> Rejected:
    return Rejected(f"Missing or incorrect parameter '{what}'")


def invalid(what: str) -> Rejected:
    return Rejected(f"Invalid parameter '{what}'")


def is_lsid(value: object) -> bool:
    """Return whether a value is a Life Science Identifier: urn:lsid:<authority>:<namespace>:<object>[:<revision>]."""
    return isinstance(value, str) and len(value) <= LONGEST_LSID and _LSID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class _Into:
    """The target of a move."""

    destination: str
    path: str
    naming: Naming


@dataclass(frozen=True, slots=True)
class Moves:
    """Reads the parameters of ``move`` for one caller."""

    registry: Registry
    rules: Rules
    caller: Caller

    def read(self, first: Any, second: Any, zipped: Any) -> Generator[None, None, NewJob]:
        """Return the job that a call asks for, yielding every few files.

        Raises Rejected and what ``jobs.submit`` raises.
        """
        if first is None or second is None:
            raise missing("source and destination must not be None")
        if isinstance(first, Mapping) or isinstance(second, Mapping):
            source, destination = (second, first) if _turned(first, second) else (first, second)
            sources = yield from self._described_sources(source)
            into, also = self._described_destination(destination)
            zipped = also if zipped is None else zipped
        else:
            sources = yield from self._listed_sources(first)
            into = self._destination(second)
        packed = False if zipped is None else yes_or_no(zipped)
        if packed is None:
            raise invalid("zip must be of type bool")
        return (yield from self._job(sources, into, packed))

    def _job(self, sources: list[SourceRef], into: _Into, zipped: bool) -> Generator[None, None, NewJob]:
        if sum(isinstance(source, DatasetSource) for source in sources) > 1:
            raise Rejected("Too many ALA jobs. Mixed sources can only contain a maximum of one ALA job.")
        # Several files need a directory; scp refused them without one.
        naming = Naming.INTO if len(sources) > 1 and not zipped else into.naming
        targets = Targets(shared=zipped)
        files = []
        for index, source in enumerate(sources):
            if isinstance(source, DatasetSource) and "ala" not in self.rules.datasets.by_scheme:
                raise Rejected(NO_ALA)
            if isinstance(source, DatasetSource):
                self.rules.datasets.check("ala", "source")
            file = NewFile(source, into.destination, into.path, naming)
            for each in self.rules.datasets.expanded(file, archive=zipped):
                targets.add(each, f"sources[{index}]")
                files.append(each)
            yield
        return NewJob(
            owner=self.rules.owner,
            files=tuple(files),
            overwrite=Overwrite.ALWAYS,
            archive="bagit" if zipped else None,
            method="move",
            max_attempts=self.rules.max_attempts,
        )

    # Structs, as of 2013 --------------------------------------------------------------------------------------

    def _described_sources(self, source: Any) -> Generator[None, None, list[SourceRef]]:
        table = struct(source) or {}
        if table.get("type") != "mixed":
            return [self._described_source(source)]
        if "sources" not in table:
            raise missing("sources must be provided with mixed source")
        sources = array(table["sources"])
        if sources is None:
            raise missing("sources must be of list type")
        if not sources:
            raise invalid("no sources selected")
        self._check_count(sources)
        if any(isinstance(each, Mapping) and each.get("type") == "mixed" for each in sources):
            raise invalid("mixed sources may not be nested")
        return (yield from self._each(sources, self._described_source))

    def _described_source(self, given: Any) -> SourceRef:
        source = struct(given)
        if source is None:
            raise missing("source must be of type dict")
        match source.get("type"):
            case None:
                raise missing("source must specify a type")
            case "ala":
                if not is_lsid(source.get("lsid")):
                    raise missing("lsid must be provided with ala source")
                return DatasetSource(_ala_url(str(source["lsid"])), 0)
            case "url":
                url = coercion.url(source.get("url") or source.get("id"))
                if url is None:
                    raise missing("url must be provided with url source")
                self.rules.check_length(url, "source")
                return self._web(url, _scheme(url))
            case "scp":
                host, path = text(source.get("host")), text(source.get("path"))
                if not host or not path:
                    raise missing("host and path must be provided with scp source")
                return self._file(host if host in self.registry.names() else None, host, None, path)
            case unknown:
                raise Rejected(f"Unknown source type '{cut(unknown) if isinstance(unknown, str) else told(unknown)}'")

    def _described_destination(self, given: Any) -> tuple[_Into, Any]:
        destination = struct(given)
        if destination is None:
            raise missing("destination must be of type dict")
        host, path = text(destination.get("host")), text(destination.get("path"))
        if not host or path is None:
            raise missing("destination must specify a host and path")
        known = host if host in self.registry.names() else None
        return self._into(known, host, None, path), destination.get("zip")

    # URLs, as of 2014 -----------------------------------------------------------------------------------------

    def _listed_sources(self, source: Any) -> Generator[None, None, list[SourceRef]]:
        one, several = coercion.url(source), array(source)
        if one is None and several is None:
            raise invalid("source must be of type str or list")
        sources = [one] if several is None else several
        if not sources:
            raise invalid("no sources selected")
        self._check_count(sources)
        return (yield from self._each(sources, self._source))

    def _source(self, given: Any) -> SourceRef:
        url = coercion.url(given)
        if url is None:
            raise invalid("source must be of type str or list")
        self.rules.check_length(url, "source")
        match scheme := _scheme(url):
            case "scp" | "swift+http" | "swift+https":
                user, host, path = _scp(url, "source")
                return self._file(host, host, user, path, scheme)
            case "http" | "https":
                return self._web(url, scheme)
            case "ala":
                lsid = parse_qs(url.partition("?")[2]).get("lsid", [""])[0]
                if not is_lsid(lsid):
                    raise missing("source ALA LSID")
                return DatasetSource(_ala_url(lsid), 0)
        raise Rejected(f"Unknown source URL scheme '{cut(scheme)}'")

    def _destination(self, given: Any) -> _Into:
        url = coercion.url(given)
        if url is None:
            raise missing("destination must be of type str")
        self.rules.check_length(url, "destination")
        if (scheme := _scheme(url)) not in ("scp", "swift+http", "swift+https"):
            raise Rejected(f"Unknown destination URL scheme '{cut(scheme)}'")
        user, host, path = _scp(url, "destination")
        return self._into(host, host, user, path, scheme)

    def _each(self, sources: Sequence[Any], read: Callable[[Any], SourceRef]) -> Generator[None, None, list[SourceRef]]:
        found = []
        for source in sources:
            found.append(read(source))
            yield
        return found

    def _check_count(self, sources: Sequence[Any]) -> None:
        most = min(MOST_SOURCES, self.rules.max_files)
        if len(sources) > most:
            raise RequestTooLarge(f"{len(sources)} sources: expected at most {most}; move the rest with further calls")

    # What they mean -------------------------------------------------------------------------------------------

    def _web(self, url: str, scheme: str) -> SourceRef:
        if scheme not in ("http", "https"):
            raise Rejected(f"Unknown source URL scheme '{cut(scheme)}'")
        match = _WEB.match(url)
        if match is None or not match[1]:
            raise Rejected("Host not specified in 'source'")
        if not match[2]:
            raise Rejected("Path not specified in 'source'")
        return web_source(url, "source", self.rules)

    def _file(self, known: str | None, host: str, user: str | None, path: str, scheme: str = "scp") -> SourceRef:
        """Return a file at a destination as a source."""
        destination, below = self._located("source", known, host, user, path, scheme)
        if not self.rules.check_path(below, "source", destination):
            raise Rejected("Path not specified in 'source'")
        return place_source(destination, below, "source", self.rules)

    def _into(self, known: str | None, host: str, user: str | None, path: str, scheme: str = "scp") -> _Into:
        destination, below = self._located("destination", known, host, user, path, scheme)
        checked = self.rules.check_path(below, "destination", destination)
        return _Into(destination, checked.rstrip("/"), Naming.INTO if is_into(checked) else Naming.PROBE)

    def _located(
        self, side: str, known: str | None, host: str, user: str | None, path: str, scheme: str
    ) -> tuple[str, str]:
        """Return the name of a destination that the caller may use, and the unchecked path below its root.

        ``side`` is "source" or "destination". Raises Rejected for an unknown host, NotPermitted and PathNotAllowed.
        """
        _check_length(path, side, host)
        if scheme == "scp":
            found = self.registry.locate(known, user, path) if known else None
        else:
            found = self.registry.locate_url(scheme, host, user, path)
        if found is None:
            raise Rejected(f"Unknown {side} '{cut(host)}'")
        destination, below = found
        self.caller.check_destination(destination.name)
        return destination.name, below


def pulled(rules: Rules, lsid: str, destination: str, directory: str) -> NewJob:
    """Return the job that ``pullOccurrenceFromALA`` asks for: the dataset's files, named for the taxon."""
    source = rules.datasets.source(_ala_url(lsid), "source")
    asked = NewFile(source, destination, directory.strip("/"), Naming.INTO)
    return NewJob(
        owner=rules.owner,
        files=tuple(
            replace(file, path=posixpath.join(directory.strip("/"), f"{lsid}{extension}"))
            for file, extension in zip(rules.datasets.expanded(asked, archive=False), _PULLED, strict=True)
        ),
        overwrite=Overwrite.ALWAYS,
        method="pullOccurrenceFromALA",
        max_attempts=rules.max_attempts,
    )


def _ala_url(lsid: str) -> str:
    return f"ala://ala?{urlencode({'lsid': lsid})}"


def _check_length(path: str, key: str, host: str) -> None:
    """Raise PathNotAllowed for a path that is too long even without the root that it may begin with."""
    if len(path) > 2 * LONGEST_PATH:
        check_path(path, key=key, destination=cut(host))


def _turned(first: Any, second: Any) -> bool:
    """Return whether the destination comes first, as in the version of September 2013."""
    return _is_destination(first) and not _is_destination(second)


def _is_destination(value: Any) -> bool:
    table = struct(value) or {}
    return "host" in table and "path" in table and "type" not in table


def _scheme(url: str) -> str:
    """Return the scheme of a URL in lower case, "" if it has none."""
    match = _SCHEME.match(url.strip())
    return match[1].lower() if match else ""


def _scp(url: str, what: str) -> tuple[str | None, str, str]:
    """Return user, host and path of ``scheme://[user@]host[:port]/path``; the path may hold "?" and "#"."""
    match = _SCP.fullmatch(url.strip().partition("://")[2])
    if match is None:
        raise Rejected(f"Host not specified in '{what}'")
    user, host, path = match.groups()
    if user is not None and ":" in user:
        raise invalid(f"{what} must not hold a password: leave it out")
    if not host:
        raise Rejected(f"Host not specified in '{what}'")
    if not path:
        raise Rejected(f"Path not specified in '{what}'")
    return unquote(user) if user else None, host.strip("[]"), unquote(path)
