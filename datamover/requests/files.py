"""One file of a request, checked: its source, where it goes, what is expected of it.

Pure: no reactor, no database, no network. A refusal names the key and the value. What a whole request says is the
business of ``datamover.requests.jobs``.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from datamover.bounds.calls import LARGEST_FILE, LONGEST_CHECKSUM
from datamover.errors import InvalidRequest, NotPermitted, RequestError, UnknownDestination, UnsupportedScheme
from datamover.jobs.values import Checksum, Naming, NewFile, PlaceSource, SourceRef, UrlSource
from datamover.protocols import place_schemes
from datamover.requests import coercion
from datamover.requests.coercion import known_keys, struct, text, told, whole
from datamover.requests.datasets import SCHEMES, Datasets, check_expectations
from datamover.text.quoting import quoted
from datamover.web.paths import check_path, is_into
from datamover.web.url import WebUrl

FILE_KEYS = frozenset({"source", "destination", "path", "checksum", "size"})
HEX_DIGITS = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32}
PLACE_SCHEMES = place_schemes()
"""What a client may not name as a source by URL, but by a registered place."""

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a request is held against."""

    owner: str
    destinations: Mapping[str, int]
    """The registered names -> bytes that a segment of a path may have there."""
    permitted: Collection[str] | None
    """Those that this client may use; None: all."""
    read_url: Callable[[str], WebUrl]
    """Refuses a URL that may not be a source, or whose login is not at hand, with a RequestError."""
    max_files: int
    max_attempts: int
    """Where the request does not say."""
    datasets: Datasets = Datasets({})  # noqa: RUF009 - frozen
    check_notice: Callable[[str], None] = lambda _: None
    """Refuses a URL that this client's notices may not be sent to, with a RequestError."""
    longest_url: int = 8192
    """Characters, as it is given and once what needs encoding is encoded."""

    def check_path(self, path: str, key: str, destination: str) -> str:
        """Return a path below the root of a registered destination, as ``web.paths.check_path`` does."""
        return check_path(path, key=key, destination=destination, longest=self.destinations[destination])

    def check_length(self, url: str, key: str) -> None:
        """Raise InvalidRequest for a URL that is too long to be looked at."""
        if len(url) > self.longest_url:
            raise InvalidRequest(
                f"{key}: a URL of {len(url)} characters: expected at most {self.longest_url} ([limits] url)"
            )


def check_file(item: Mapping[str, Any], where: str, archive: str | None, rules: Rules) -> NewFile:
    prefix = f"{where}." if where else ""
    if where:
        known_keys(item, FILE_KEYS, prefix)
    for key in ("source", "destination", "path"):
        if key not in item:
            raise InvalidRequest(f"{prefix}{key}: missing")
    source = _source(item["source"], f"{prefix}source", rules)
    destination = registered(item["destination"], f"{prefix}destination", rules)
    path = text(item["path"])
    if path is None:
        raise InvalidRequest(f"{prefix}path: {told(item['path'])}: expected text")
    path = rules.check_path(path, f"{prefix}path", destination)
    if archive and is_into(path):
        raise InvalidRequest(
            f"{prefix}path: {quoted(path)}: expected the archive's own path, such as 'results/all.zip'"
        )
    file = NewFile(
        source=source,
        destination=destination,
        path=path.rstrip("/"),
        naming=Naming.INTO if is_into(path) else Naming.EXACT,
        checksum=_checksum(item["checksum"], f"{prefix}checksum") if "checksum" in item else None,
        size=_size(item["size"], f"{prefix}size") if "size" in item else None,
    )
    check_expectations(source, file, prefix)
    return file


def _source(value: object, key: str, rules: Rules) -> SourceRef:
    url = coercion.url(value)
    if url is not None:
        return text_source(url, key, rules)
    table = struct(value)
    if table is None:
        raise InvalidRequest(f"{key}: {told(value)}: expected a URL, or a struct with 'destination' and 'path'")
    known_keys(table, frozenset({"destination", "path"}), f"{key}.")
    for part in ("destination", "path"):
        if text(table.get(part)) is None:
            raise InvalidRequest(f"{key}.{part}: {told(table[part]) if part in table else 'missing'}: expected text")
    destination = registered(table["destination"], f"{key}.destination", rules)
    return place_source(destination, text(table["path"]) or "", f"{key}.path", rules)


def place_source(destination: str, path: str, key: str, rules: Rules) -> PlaceSource:
    """Return a file of a registered place as a source; raises PathNotAllowed and InvalidRequest (a directory)."""
    checked = rules.check_path(path, key, destination)
    if is_into(checked):
        raise InvalidRequest(f"{key}: {quoted(path)}: expected a file's path: directories are not moved")
    return PlaceSource(destination, checked)


def text_source(url: str, key: str, rules: Rules) -> SourceRef:
    """Return a dataset or a file on the web as a source; raises what ``web_source`` does."""
    rules.check_length(url, key)
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    if scheme in SCHEMES:
        return rules.datasets.source(url, key)
    if scheme in PLACE_SCHEMES:
        raise UnsupportedScheme(
            f"{key}: {told(url)}: {scheme}:// sources are not read by URL: name the registered place, "
            "{destination: NAME, path: …}"
        )
    return web_source(url, key, rules)


def web_source(given: str, key: str, rules: Rules) -> UrlSource:
    """Return a URL, whose length has been checked, as a source.

    Raises UnsupportedScheme, InvalidRequest (not a URL, or a login in it) and SourceNotAllowed.
    """
    try:
        url = rules.read_url(given)
    except RequestError as error:
        raise error.below(key) from None
    full = url.text
    rules.check_length(full, key)
    return UrlSource(full, full if url.query is None else url.shown)


def notice_url(value: object, rules: Rules) -> UrlSource:
    """Return the URL that a job's end is told to.

    Raises InvalidRequest (no URL, a login in it, or nothing to sign with) and SourceNotAllowed.
    """
    given = coercion.url(value)
    if given is not None:
        rules.check_length(given, "notify")
    try:
        url = None if given is None else WebUrl.parse(given)
    except (InvalidRequest, UnsupportedScheme):
        url = None
    if url is None:
        raise InvalidRequest(
            f"notify: {told(value)}: expected an http(s) URL without a login, such as https://portal.example.org/moved"
        )
    rules.check_length(url.text, "notify")
    try:
        rules.check_notice(url.text)
    except RequestError as error:
        raise error.below("notify") from None
    return UrlSource(url.text, url.shown)


def registered(value: object, key: str, rules: Rules) -> str:
    """Return the name of a destination that this client may use; raises UnknownDestination and NotPermitted."""
    name = text(value)
    if name is None:
        raise InvalidRequest(f"{key}: {told(value)}: expected the name of a destination")
    if name not in rules.destinations:
        names = [name for name in rules.destinations if rules.permitted is None or name in rules.permitted]
        known = f"there are: {', '.join(names)}" if names else "there is none that you may use: ask the administrator"
        raise UnknownDestination(f"{key}: {told(name)} is not a registered destination; {known}")
    if rules.permitted is not None and name not in rules.permitted:
        raise NotPermitted(f"{key}: client {rules.owner!r} may not use destination {quoted(name)}")
    return name


def _checksum(value: object, key: str) -> Checksum:
    given = text(value)
    algorithm, colon, digits = ("" if given is None or len(given) > LONGEST_CHECKSUM else given).partition(":")
    length = HEX_DIGITS.get(algorithm)
    if not colon or length is None:
        raise InvalidRequest(f"{key}: {told(value)}: expected one of {', '.join(f'{name}:…' for name in HEX_DIGITS)}")
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{length}}}", digits):
        raise InvalidRequest(f"{key}: {told(value)}: expected {length} hexadecimal digits after '{algorithm}:'")
    return Checksum(algorithm, digits.lower())


def _size(value: object, key: str) -> int:
    size = whole(value)
    if size is None or not 0 <= size <= LARGEST_FILE:
        raise InvalidRequest(f"{key}: {told(value)}: expected a whole number of bytes, 0 or more")
    return size


def canonical(file: NewFile) -> bytes:
    source = file.source
    whence = [source.destination, source.path] if isinstance(source, PlaceSource) else [source.url]
    checksum = str(file.checksum) if file.checksum else None
    return json.dumps([whence, file.destination, file.path, file.naming.value, checksum, file.size]).encode()
