"""What a look at a resource tells: by the properties of PROPFIND, or by the headers of HEAD and GET. Pure."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from datamover.protocols.base import Inspection
from datamover.protocols.dav.documents import Member
from datamover.protocols.http.answers import PARTIAL, Head, content_range
from datamover.protocols.http.dates import http_date

_CHECKSUM = re.compile(r"(?i)\b(sha1|md5|sha256|sha3-256|adler32):([0-9a-f]+)\b")
_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}
_NUMBER = re.compile(r"\d{1,40}")


@dataclass(frozen=True, slots=True)
class Look:
    """A resource that is there."""

    collection: bool = False
    size: int | None = None
    """Bytes."""
    etag: str = ""
    """Without "W/" and quotes, which some servers put in headers alone; "" where the server tells none."""
    modified: float | None = None
    """POSIX seconds."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Lower-case hex by algorithm."""

    def inspection(self, path: str, *, tagged: bool = True) -> Inspection:
        """Return it as the engine sees it; without ``tagged`` the identity is not taken from the ETag."""
        name = posixpath.basename(path)
        if self.collection:
            return Inspection(name, directory=True)
        return Inspection(name, self.size, self._identity(tagged), self.modified, self.digests)

    def _identity(self, tagged: bool) -> str | None:
        if self.etag and tagged:
            return f"tag {self.etag}"
        return None if self.modified is None or self.size is None else f"date {self.modified:.0f} {self.size}"


def look_of(member: Member) -> Look:
    """Return what a response of a multistatus tells."""
    props = member.props
    length = props.get("getcontentlength", "")
    return Look(
        member.collection,
        int(length) if _NUMBER.fullmatch(length) and not member.collection else None,
        _plain(props.get("getetag", "")),
        http_date(props.get("getlastmodified")),
        digests_in(props.get("checksums", "")),
    )


def look_in(head: Head) -> Look:
    """Return what the answer to a HEAD or GET tells of a file."""
    part = content_range(head) if head.status == PARTIAL else None
    coded = bool(head.codings)
    size = part.total if part is not None else head.length if head.status != PARTIAL else None
    return Look(
        False,
        None if coded else size,
        _plain(head.header("ETag") or ""),
        http_date(head.header("Last-Modified")),
        {} if coded else digests_in(head.headers_of("OC-Checksum")),
    )


def digests_in(text: str) -> Mapping[str, str]:
    """Return the digests that a text such as "SHA1:da39… MD5:d41d…" tells."""
    found = {name.lower(): value.lower() for name, value in _CHECKSUM.findall(text)}
    return {name: value for name, value in found.items() if len(value) == _LENGTHS.get(name)}


def strong(head: Head) -> str | None:
    """Return the ETag where it stands for the very bytes (RFC 9110 8.8.1)."""
    etag = (head.header("ETag") or "").strip()
    return etag if etag.startswith('"') and etag.endswith('"') and len(etag) > 1 else None


def _plain(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')
