"""Parse and make the XML documents of WebDAV. Pure."""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from html import unescape

from datamover.bounds.servers import (
    LARGEST_DOCUMENT,
    MOST_MEMBERS_TOLD,
    MOST_NODES_ARRIVING,
    MOST_NODES_OF_ERRORS,
)
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.http_place.xml_documents import XmlReader, read_document
from datamover.protocols.slices import result

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
    """Parses a multistatus (RFC 4918 13) as it arrives, and calls ``take`` with each response.

    It is the ``Target`` of its document.
    """

    def __init__(self, take: Callable[[Member], None]) -> None:
        self._take = take
        self._reader = XmlReader(self, MOST_NODES_ARRIVING)
        self._size = self._members = 0
        self._path: list[str] = []
        self._member = Member()
        self._found: dict[str, str] = {}
        self._is_collection = False
        self._status: int | None = None

    def feed(self, data: bytes) -> Generator[None, None, None]:
        """Parse the next bytes, in steps. Raises Unreadable."""
        if not self._size:
            # PHP files leave empty lines before the document, where XML allows none.
            data = data.lstrip()
        self._size += len(data)
        if self._size > LARGEST_DOCUMENT:
            raise Unreadable(f"it has more than {LARGEST_DOCUMENT} bytes")
        return self._reader.feed(data)

    def finish(self) -> None:
        """End the document; raises Unreadable if it is incomplete."""
        self._reader.finish()

    # For the reader -------------------------------------------------------------------------------------------

    def start(self, namespace: str, name: str) -> None:
        if not self._path and name != "multistatus":
            raise Unreadable("it is not a multistatus")
        self._path.append(name if namespace in _NAMESPACES else "")

    def end(self, text: str) -> None:
        name = self._path.pop()
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
            self._members += 1
            if self._members > MOST_MEMBERS_TOLD:
                raise Unreadable(f"it lists more than {MOST_MEMBERS_TOLD:,} files")
            self._take(member)
        elif within == "prop" and name in _TEXTS:
            self._found[name] = text.strip()


def failure_in(body: bytes) -> Generator[None, None, int | None]:
    """Return the status of the first resource in a multistatus that failed, None if none did, in steps.

    Raises Unreadable.
    """
    failed: int | None = None

    def take(member: Member) -> None:
        nonlocal failed
        if failed is None and member.status is not None and member.status >= 300:
            failed = member.status

    parser = MultistatusParser(take)
    yield from parser.feed(body)
    parser.finish()
    return failed


def said_in(body: bytes) -> tuple[str, str]:
    """Return the kind and the message of the error in a body, "" for each that is missing.

    sabre/dav names an exception; other servers send a page, of which the title is used.
    """
    said = _Said()
    try:
        result(read_document(body, said, MOST_NODES_OF_ERRORS))
    except Unreadable:
        title = _TITLE.search(body)
        return "", unescape(" ".join(title[1].decode("utf-8", "replace").split())) if title else ""
    texts = said.texts
    return texts.get("exception", "").rpartition("\\")[2], texts.get("message", "") or texts.get("title", "")


class _Said:
    """The texts in an error, by the names of their elements."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._path: list[str] = []

    def start(self, _: str, name: str) -> None:
        self._path.append(name.lower())

    def end(self, text: str) -> None:
        name = self._path.pop()
        if text or name not in self.texts:
            self.texts[name] = " ".join(text.split())
