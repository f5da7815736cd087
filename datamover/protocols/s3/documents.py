"""Parse the XML documents of S3, and make the one that completes an upload. Pure."""

import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from datamover.bounds.servers import MOST_ENTRIES, MOST_NODES, MOST_NODES_OF_ERRORS
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.http_place.xml_documents import Malformed, read_document
from datamover.protocols.object_store.seam import Part
from datamover.protocols.slices import converted, result

_NO_XML = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]"
    rb"|&#x0*(?:[0-8bcef]|1[0-9a-f]|fff[ef]);|&#0*(?:[0-8]|1[124-9]|2[0-9]|3[01]|6553[45]);",
    re.IGNORECASE,
)
"""What stands for characters that XML 1.0 has not, in UTF-8."""
_FIELDS = frozenset(
    {
        *("Key", "Prefix", "EncodingType", "IsTruncated", "NextContinuationToken", "NextPartNumberMarker"),
        *("NextKeyMarker", "NextUploadIdMarker", "PartNumber", "Size", "ETag", "ChecksumSHA256"),
        *("UploadId", "Initiated", "Initiator/ID", "Owner/ID", "Code", "Message", "Region", "Endpoint"),
    }
)
"""The texts that are used; others are dropped at once."""
_CODE = re.compile(rb"<(?:\w+:)?Error\b[^<>]*>[^<]*<(?:\w+:)?Code>([\w.-]{1,100})</")


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """The error in an answer."""

    code: str
    message: str
    region: str | None = None
    endpoint: str | None = None
    """The host that the service names instead of its own."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of keys."""

    keys: tuple[str, ...]
    prefixes: tuple[str, ...]
    following: str | None
    """The token of the next page; "" if the service leaves it out, None if this is the last page."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An upload that is neither completed nor aborted."""

    key: str
    upload: str
    initiator: str
    initiated: str
    """When it began, as the service writes it (ISO 8601)."""

    @property
    def initiated_at(self) -> float | None:
        """When it began, in POSIX seconds; None if that cannot be parsed."""
        try:
            moment = datetime.fromisoformat(self.initiated)
        except ValueError:
            return None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def error_of(body: bytes) -> ErrorDocument | None:
    """Return the error that a body tells, None where it tells none; of one that is cut off only the code."""
    try:
        document = result(_read(body, "", ("Error",), MOST_NODES_OF_ERRORS))
    except Unreadable:
        match = _CODE.search(body)
        return ErrorDocument(match[1].decode("ascii", "replace"), "") if match else None
    found: Row | None = None
    if document.name in ("ErrorResponse", "Response"):  # Of gateways before the service, in the form of other services.
        found = next(iter(document.rows["Error"]), None)
    elif document.name == "Error":
        found = document.own
    if found is None:
        return None
    code, message, region, endpoint = (_word(found, name) for name in ("Code", "Message", "Region", "Endpoint"))
    return ErrorDocument(code, message, region or None, endpoint or None)


def upload_of(body: bytes) -> Generator[None, None, str]:
    """Return the id of the upload that was begun, in steps."""
    document = yield from _read(body)  # Services name it differently.
    upload = _word(document.own, "UploadId")
    if not upload:
        raise Unreadable("it names no upload")
    return upload


def completed_of(body: bytes) -> Generator[None, None, str]:
    """Return the ETag in the answer to the completion of an upload, "" if there is none, in steps."""
    document = yield from _read(body)
    return _etag(document.own)


def listing_of(body: bytes) -> Generator[None, None, Listing]:
    """Return a page of keys, requested with encoding-type=url, in steps."""
    document = yield from _read(body, "ListBucket", ("Contents", "CommonPrefixes"))
    plain = _plain(document)
    keys = yield from converted(document.rows["Contents"], lambda row: plain(row.get("Key", "")))
    prefixes = yield from converted(document.rows["CommonPrefixes"], lambda row: plain(row.get("Prefix", "")))
    following = _word(document.own, "NextContinuationToken") if _goes_on(document) else None
    return Listing(tuple(keys), tuple(prefixes), following)


def parts_of(body: bytes) -> Generator[None, None, tuple[dict[int, Part], str | None, str]]:
    """Return a page of parts by number, the marker of the next page (None: this is the last), and the initiator.

    It is done in steps.
    """
    document = yield from _read(body, "ListParts", ("Part",))
    parts = yield from converted(
        document.rows["Part"],
        lambda row: (_number(row, "PartNumber"), Part(_number(row, "Size"), _etag(row), _word(row, "ChecksumSHA256"))),
    )
    following = (_word(document.own, "NextPartNumberMarker") or None) if _goes_on(document) else None
    return dict(parts), following, _initiator(document.own)


def uploads_of(body: bytes) -> Generator[None, None, tuple[list[Pending], tuple[str, str] | None]]:
    """Return a page of uploads, requested with encoding-type=url, and the markers of the next page, None if none.

    It is done in steps.
    """
    document = yield from _read(body, "ListMultipartUploads", ("Upload",))
    plain = _plain(document)
    found = yield from converted(
        document.rows["Upload"],
        lambda row: Pending(
            plain(row.get("Key", "")), _word(row, "UploadId"), _initiator(row), _word(row, "Initiated")
        ),
    )
    if not _goes_on(document):
        return found, None
    return found, (plain(document.own.get("NextKeyMarker", "")), _word(document.own, "NextUploadIdMarker"))


def completion(parts: Iterable[Part]) -> bytes:
    """Return the document that completes an upload of these parts, in order."""
    lines = ["<CompleteMultipartUpload>"]
    for number, part in enumerate(parts, 1):
        checksum = f"<ChecksumSHA256>{escape(part.sha256)}</ChecksumSHA256>" if part.sha256 else ""
        etag = escape(f'"{part.etag}"')
        lines.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>")
    return "".join([*lines, "</CompleteMultipartUpload>"]).encode()


Row = Mapping[str, str]
"""The texts in an element, by the names of those that they stand in: "Key", "Initiator/ID"."""


class _Document:
    """What is used of a document."""

    def __init__(self, rows: Iterable[str]) -> None:
        """``rows``: the names of elements of which each becomes a row of its own."""
        self.name = ""
        """The root's."""
        self.own: dict[str, str] = {}
        """The texts in the root that are in no row."""
        self.rows: dict[str, list[Row]] = {name: [] for name in rows}
        self._path: list[str] = []
        self._row: dict[str, str] | None = None
        self._begins = 0
        """The depth of the row's element."""

    def start(self, _: str, name: str) -> None:
        self.name = self.name or name
        self._path.append(name)
        if self._row is None and name in self.rows and len(self._path) > 1:
            self._row, self._begins = {}, len(self._path)
            self.rows[name].append(self._row)
            if len(self.rows[name]) > MOST_ENTRIES:
                raise Unreadable(f"it has more than {MOST_ENTRIES:,} entries")

    def end(self, text: str) -> None:
        depth = len(self._path)
        if self._row is None:
            found, begins = self.own, 1
        else:
            found, begins = self._row, self._begins
        if depth > begins and (key := "/".join(self._path[begins:])) in _FIELDS:
            found.setdefault(key, text)
        elif depth == begins:
            self._row = None
        self._path.pop()


def _read(
    body: bytes, expected: str = "", rows: Iterable[str] = (), most: int = MOST_NODES
) -> Generator[None, None, _Document]:
    """Return a document, in steps. Its name must begin with ``expected``; services differ in the rest of it."""
    body = body.strip()  # Some services send white space until they are done.
    document = _Document(rows)
    try:
        yield from read_document(body, document, most)
    except Malformed:
        # Keys may have characters that XML 1.0 (2.2) does not allow; services write them, or references to them.
        document = _Document(rows)
        yield from read_document(body, document, most, partial(_NO_XML.sub, b"?"))
    if not document.name.startswith(expected):
        raise Unreadable(f"expected {expected}")
    return document


def _plain(document: _Document) -> Callable[[str], str]:
    """Return what gets a key from its text in a listing."""
    return unquote_plus if _word(document.own, "EncodingType") == "url" else str


def _word(row: Row, name: str) -> str:
    """Return a text that is no key, without white space around it: some services indent."""
    return row.get(name, "").strip()


def _etag(row: Row) -> str:
    return _word(row, "ETag").removeprefix("W/").strip('"')


def _goes_on(document: _Document) -> bool:
    return _word(document.own, "IsTruncated").lower() in ("true", "1")


def _number(row: Row, name: str) -> int:
    try:
        return int(_word(row, name))
    except ValueError:
        raise Unreadable(f"{name} is not a number") from None


def _initiator(row: Row) -> str:
    return _word(row, "Initiator/ID") or _word(row, "Owner/ID")
