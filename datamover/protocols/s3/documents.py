"""Parse the XML documents of S3, and make the one that completes an upload. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.object_store.seam import Part

_NO_XML = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]"
    rb"|&#x0*(?:[0-8bcef]|1[0-9a-f]|fff[ef]);|&#0*(?:[0-8]|1[124-9]|2[0-9]|3[01]|6553[45]);",
    re.IGNORECASE,
)
"""What stands for characters that XML 1.0 has not, in UTF-8."""
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
        root = _parse(body)
    except Unreadable:
        match = _CODE.search(body)
        return ErrorDocument(match[1].decode("ascii", "replace"), "") if match else None
    if _name(root) in ("ErrorResponse", "Response"):  # Of gateways before the service, in the form of other services.
        root = next((each for each in root.iter() if _name(each) == "Error"), root)
    if _name(root) != "Error":
        return None
    code, message, region, endpoint = (_word(root, name) for name in ("Code", "Message", "Region", "Endpoint"))
    return ErrorDocument(code, message, region or None, endpoint or None)


def upload_of(body: bytes) -> str:
    """Return the id of the upload that was begun."""
    upload = _word(_parse(body), "UploadId")  # Services name the document differently.
    if not upload:
        raise Unreadable("it names no upload")
    return upload


def completed_of(body: bytes) -> str:
    """Return the ETag in the answer to the completion of an upload, "" if there is none."""
    return _etag(_parse(body))


def listing_of(body: bytes) -> Listing:
    """Return a page of keys, requested with encoding-type=url."""
    root = _parse(body, "ListBucket")
    plain = unquote_plus if _word(root, "EncodingType") == "url" else str
    keys = tuple(plain(_text(each, "Key")) for each in _all(root, "Contents"))
    prefixes = tuple(plain(_text(each, "Prefix")) for each in _all(root, "CommonPrefixes"))
    return Listing(keys, prefixes, _word(root, "NextContinuationToken") if _goes_on(root) else None)


def parts_of(body: bytes) -> tuple[dict[int, Part], str | None, str]:
    """Return a page of parts by number, the marker of the next page (None: this is the last), and the initiator."""
    root = _parse(body, "ListParts")
    found = {
        _number(each, "PartNumber"): Part(_number(each, "Size"), _etag(each), _word(each, "ChecksumSHA256"))
        for each in _all(root, "Part")
    }
    return found, (_word(root, "NextPartNumberMarker") or None) if _goes_on(root) else None, _initiator(root)


def uploads_of(body: bytes) -> tuple[list[Pending], tuple[str, str] | None]:
    """Return a page of uploads, requested with encoding-type=url, and the markers of the next page, None if none."""
    root = _parse(body, "ListMultipartUploads")
    plain = unquote_plus if _word(root, "EncodingType") == "url" else str
    found = [
        Pending(plain(_text(each, "Key")), _word(each, "UploadId"), _initiator(each), _word(each, "Initiated"))
        for each in _all(root, "Upload")
    ]
    if not _goes_on(root):
        return found, None
    return found, (plain(_text(root, "NextKeyMarker")), _word(root, "NextUploadIdMarker"))


def completion(parts: Iterable[Part]) -> bytes:
    """Return the document that completes an upload of these parts, in order."""
    lines = ["<CompleteMultipartUpload>"]
    for number, part in enumerate(parts, 1):
        checksum = f"<ChecksumSHA256>{escape(part.sha256)}</ChecksumSHA256>" if part.sha256 else ""
        etag = escape(f'"{part.etag}"')
        lines.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>")
    return "".join([*lines, "</CompleteMultipartUpload>"]).encode()


def _parse(body: bytes, expected: str = "") -> Element:
    """Return the root element, whose name must begin with ``expected``; services differ in the rest of it."""
    body = body.strip()  # Some services send white space until they are done.
    try:
        try:
            root: Element = fromstring(body)
        except ParseError:
            # Keys may have characters that XML 1.0 (2.2) does not allow; services write them, or references to them.
            root = fromstring(_NO_XML.sub(b"?", body))
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise Unreadable("it is not XML") from error
    if not _name(root).startswith(expected):
        raise Unreadable(f"expected {expected}")
    return root


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: Element, name: str) -> list[Element]:
    return [each for each in element if _name(each) == name]


def _text(element: Element, name: str) -> str:
    return next((each.text or "" for each in element if _name(each) == name), "")


def _word(element: Element, name: str) -> str:
    """Return the text of an element that is no key, without white space around it: some services indent."""
    return _text(element, name).strip()


def _etag(element: Element) -> str:
    return _word(element, "ETag").removeprefix("W/").strip('"')


def _goes_on(root: Element) -> bool:
    return _word(root, "IsTruncated").lower() in ("true", "1")


def _number(element: Element, name: str) -> int:
    try:
        return int(_word(element, name))
    except ValueError:
        raise Unreadable(f"{name} is not a number") from None


def _initiator(element: Element) -> str:
    for name in ("Initiator", "Owner"):
        for each in _all(element, name):
            if found := _word(each, "ID"):
                return found
    return ""
