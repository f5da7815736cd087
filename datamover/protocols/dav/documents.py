"""Parse and make the XML documents of WebDAV. Pure.

A multistatus is parsed piece by piece, with limits on its depth and on the length of its texts; a DTD is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, fromstring

from datamover.bounds.servers import DEEPEST_DAV_DOCUMENT, LONGEST_DAV_TEXT
from datamover.protocols.http_place.refused import Unreadable

TOO_EARLY = 425

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<propfind xmlns="DAV:" xmlns:oc="http://owncloud.org/ns"><prop>'
_TAIL = "</prop></propfind>"
FILE = f"{_HEAD}<resourcetype/><getcontentlength/><getlastmodified/><getetag/><oc:checksums/>{_TAIL}".encode()
"""Requests the properties of a file."""
NAMES = f"{_HEAD}<resourcetype/>{_TAIL}".encode()
"""Requests the least that is possible."""
ROOM = f"{_HEAD}<quota-available-bytes/>{_TAIL}".encode()
"""RFC 4331."""

_STATUS = re.compile(r"\s*HTTP/\S+\s+(\d{3})")
_TITLE = re.compile(rb"<title[^<>]*>(.{1,500}?)</title>", re.IGNORECASE | re.DOTALL)
_NAMESPACES = frozenset({"DAV:", "DAV", "", "http://owncloud.org/ns"})
_TEXTS = frozenset(
    {
        "href",
        "status",
        "resourcetype",
        "getcontentlength",
        "getlastmodified",
        "getetag",
        "quota-available-bytes",
        "checksum",
    }
)


@dataclass(slots=True)
class Member:
    """One resource in a multistatus."""

    hrefs: list[str] = field(default_factory=list)
    status: int | None = None
    """The status of the resource itself; None if only its properties have one."""
    props: dict[str, str] = field(default_factory=dict)
    """The properties that the server has."""
    collection: bool = False
    processed: bool = True
    """False: the server is at work on it still, such as looking for viruses (425, as ownCloud Infinite Scale says)."""


class MultistatusParser:
    """Parses a multistatus (RFC 4918 13) as it arrives, and calls ``take`` with each response."""

    def __init__(self, take: Callable[[Member], None]) -> None:
        self._take = take
        self._parser = DefusedXMLParser(target=self, forbid_dtd=True)
        self._begun = False
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._length = 0
        self._member = Member()
        self._found: dict[str, str] = {}
        self._is_collection = False
        self._status: int | None = None

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raises Unreadable."""
        if not self._begun:
            # PHP files leave empty lines before the document, where XML allows none.
            data = data.lstrip()
            self._begun = bool(data)
        try:
            self._parser.feed(data)
        except (ParseError, DefusedXmlException, ValueError) as error:
            raise Unreadable("it is not XML") from error

    def end(self, tag: str | None = None) -> None:
        """Called by the parser at the end of an element."""
        name = self._path.pop() if self._path else ""
        text = "".join(self._text) if self._text is not None else ""
        self._text = None
        within = self._path[-1] if self._path else ""
        if name == "href" and within == "response":
            self._member.hrefs.append(text)
        elif name == "status":
            status = int(found[1]) if (found := _STATUS.match(text)) else None
            self._member.processed &= status != TOO_EARLY
            if within == "propstat":
                self._status = status
            elif within == "response":
                self._member.status = status
        elif name == "propstat":
            if self._status is None or 200 <= self._status < 300:
                self._member.props.update(self._found)
                self._member.collection |= self._is_collection
            self._found, self._is_collection, self._status = {}, False, None
        elif name == "collection" and within == "resourcetype":
            self._is_collection = True
        elif name == "checksum":
            self._found["checksums"] = f"{self._found.get('checksums', '')} {text}".strip()
        elif name == "response":
            member, self._member = self._member, Member()
            if "resourcetype" not in member.props:  # Then "/" at the end of an href tells it (RFC 4918 5.2).
                member.collection |= any(href.rstrip().endswith("/") for href in member.hrefs)
            self._take(member)
        elif within == "prop" and name in _TEXTS:
            self._found[name] = text.strip()

    def finish(self) -> None:
        """End the document; raises Unreadable if it is incomplete."""
        try:
            self._parser.close()
        except (ParseError, DefusedXmlException, ValueError) as error:
            raise Unreadable("it is not XML") from error

    # For the parser -------------------------------------------------------------------------------------------

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        namespace, _, name = tag.rpartition("}")
        known = namespace.lstrip("{") in _NAMESPACES
        if not self._path and name != "multistatus":
            raise ValueError("not a multistatus")
        self._path.append(name if known else "")
        if len(self._path) > DEEPEST_DAV_DOCUMENT:
            raise ValueError("too deep")
        self._text, self._length = ([], 0) if known and name in _TEXTS else (None, 0)

    def data(self, text: str) -> None:
        if self._text is not None:
            self._length += len(text)
            if self._length > LONGEST_DAV_TEXT:
                raise ValueError("too long")
            self._text.append(text)

    def close(self) -> None:
        """Do nothing: the parser calls it at its end."""


def members_of(body: bytes) -> list[Member]:
    """Return the resources in a whole multistatus. Raises Unreadable."""
    found: list[Member] = []
    parser = MultistatusParser(found.append)
    parser.feed(body)
    parser.finish()
    return found


def failure_in(body: bytes) -> int | None:
    """Return the status of the first resource in a multistatus that failed, None if none did."""
    failed = [each.status for each in members_of(body) if each.status is not None and each.status >= 300]
    return failed[0] if failed else None


def said_in(body: bytes) -> tuple[str, str]:
    """Return the kind and the message of the error in a body, "" for each that is missing.

    sabre/dav names an exception; other servers send a page, of which the title is used.
    """
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        title = _TITLE.search(body)
        return "", unescape(" ".join(title[1].decode("utf-8", "replace").split())) if title else ""
    texts = {each.tag.rpartition("}")[2].lower(): " ".join((each.text or "").split()) for each in root.iter()}
    return texts.get("exception", "").rpartition("\\")[2], texts.get("message", "") or texts.get("title", "")
