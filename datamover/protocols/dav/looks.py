"""What is known of a resource, from the properties of PROPFIND or the headers of HEAD and GET. Pure."""

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from datamover.protocols.base import Inspection
from datamover.protocols.dav.address import segments_of
from datamover.protocols.dav.documents import Member
from datamover.protocols.http.answers import Head, size_of
from datamover.protocols.http.dates import http_date
from datamover.web.url import WebUrl

TAG = "tag "
"""The beginning of an identity that is an ETag."""
OLDEST = 86_400
"""POSIX seconds: Nextcloud refuses a file with a time that is not after this."""

_CHECKSUM = re.compile(r"(?i)\b(sha1|md5|sha256|sha3-256|adler32):([0-9a-f]+)\b")
_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}
_NUMBER = re.compile(r"\d{1,40}")


@dataclass(frozen=True, slots=True)
class DavLook:
    """A resource that exists."""

    collection: bool = False
    size: int | None = None
    """Bytes."""
    etag: str = ""
    """Without "W/" and quotes, which some servers write only in headers; "" if there is none."""
    modified: float | None = None
    """POSIX seconds."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Lower-case hex by algorithm."""

    def inspection(self, path: str, *, tagged: bool = True) -> Inspection:
        """Return its Inspection; unless ``tagged``, the ETag is not used as its identity."""
        name = posixpath.basename(path)
        if self.collection:
            return Inspection(name, directory=True)
        return Inspection(name, self.size, self._identity(tagged), self.modified, self.digests)

    def _identity(self, tagged: bool) -> str | None:
        if self.etag and tagged:
            return f"{TAG}{self.etag}"
        return None if self.modified is None or self.size is None else f"date {self.modified:.0f} {self.size}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that was sent; ``is_in`` recognises it among what others may write in its place."""

    size: int
    """Bytes."""
    found: DavLook
    """Its part file as it was found, or only the ETag that the server returned."""
    data: bytes | None = None
    """The whole content of a small file."""
    renamed: bool = False
    """Whether the ETag is that under its own name: some servers give another one to a renamed file."""

    def tagged(self, etag: str) -> Self:
        """Return it with the ETag that the server returned when it was renamed, "" for none."""
        return replace(self, found=replace(self.found, etag=etag), renamed=True) if etag else self

    def is_in(self, there: DavLook) -> bool | None:
        """Tell whether it is what was found under a name; None if nothing shows it."""
        same = self.found.etag == there.etag
        if self.found.etag and there.etag and (same or self.renamed):
            return same
        if self.found.size is None or self.found.modified is None:
            return None
        return (self.found.size, self.found.modified) == (there.size, there.modified)

    def differs(self, there: DavLook) -> str | None:
        """Say in which published digest a small file differs from what was sent; None if in none."""
        for algorithm, told in there.digests.items():
            if self.data is None:
                break
            sent = hashlib.new(algorithm, self.data, usedforsecurity=False).hexdigest()
            if sent != told:
                return f"the server tells {algorithm} {told} of it, sent was {sent}"
        return None


class Members:
    """The members of a collection, taken one by one from a multistatus."""

    def __init__(self, own: tuple[str, ...]) -> None:
        """``own`` is the collection's path."""
        self._own = own
        self._looks: dict[tuple[str, ...], dict[str, DavLook]] = {}
        """The Looks by the path above and the name."""

    def take(self, member: Member) -> None:
        look = look_of(member)
        for path in map(segments_of, member.hrefs):
            if path:
                self._looks.setdefault(path[:-1], {})[path[-1]] = look

    def by_name(self) -> Mapping[str, DavLook]:
        """Return the Looks of the members by name."""
        own = self._own
        if self._looks and own and own[-1] not in self._looks.get(own[:-1], ()):
            own = self._changed()
        return self._looks.get(own, {})

    def _changed(self) -> tuple[str, ...]:
        """Return the collection's path where a proxy changes paths: it is above all others if it is told."""
        above = min(self._looks, key=len)
        shortest = (*above, next(iter(self._looks[above])))
        for path, names in self._looks.items():
            if path[: len(shortest)] != shortest and (path != above or len(names) > 1):
                return above
        return shortest


def look_of(member: Member) -> DavLook:
    """Return the Look in a response of a multistatus."""
    props = member.props
    length = props.get("getcontentlength", "")
    return DavLook(
        member.collection,
        int(length) if _NUMBER.fullmatch(length) and not member.collection else None,
        _plain(props.get("getetag", "")),
        http_date(props.get("getlastmodified")),
        digests_in(props.get("checksums", "")),
    )


def look_in(head: Head) -> DavLook:
    """Return the Look in the answer to a HEAD or GET."""
    coded = bool(head.codings)
    return DavLook(
        False,
        None if coded else size_of(head),
        _plain(head.header("ETag") or ""),
        http_date(head.header("Last-Modified")),
        {} if coded else digests_in(head.headers_of("OC-Checksum")),
    )


def digests_in(text: str) -> Mapping[str, str]:
    """Return the digests in a text such as "SHA1:da39… MD5:d41d…"."""
    found = {name.lower(): value.lower() for name, value in _CHECKSUM.findall(text)}
    return {name: value for name, value in found.items() if len(value) == _LENGTHS.get(name)}


def tag_told(head: Head) -> str:
    """Return the ETag of a file in the answer to the PUT or MOVE that made it, "" if there is none.

    ownCloud and Nextcloud also send OC-ETag, which no proxy changes.
    """
    return _plain(head.header("OC-ETag") or head.header("ETag") or "")


def if_tagged(url: WebUrl, etag: str) -> dict[str, str]:
    """Return the header that makes a request fail unless a resource has an ETag (RFC 4918 10.4.9)."""
    return {"If": f'<{url.path}> (["{etag}"])'}


def time_header(modified: float | None) -> dict[str, str]:
    """Return the header by which a file gets its modification time (POSIX seconds), if the server supports it."""
    return {} if modified is None or modified <= OLDEST else {"X-OC-Mtime": str(int(modified))}


def _plain(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')
