"""The URL of a collection and of the files below it, and the paths that a server's hrefs name. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from datamover.web.url import WebUrl

SCHEMES = {"dav": "http", "davs": "https"}

_FILES = re.compile(r"(?P<base>.*)/remote\.php/dav/files/(?P<user>[^/]+)")
_WEBDAV = re.compile(r"(?P<base>.*)/remote\.php/webdav")


@dataclass(frozen=True, slots=True)
class DavAddress:
    """One collection of one server."""

    root: WebUrl
    """Without "/" at its end."""

    @classmethod
    def parse(cls, url: str) -> "DavAddress":
        """Return the address that a URL (dav, davs) names; raises InvalidRequest and UnsupportedScheme."""
        scheme, _, rest = url.partition("://")
        root = WebUrl.parse(f"{SCHEMES.get(scheme.lower(), scheme)}://{rest}")
        return cls(WebUrl(root.scheme, root.host, root.port, root.path.rstrip("/"), None))

    def url(self, path: str, *, collection: bool = False) -> WebUrl:
        """Return the URL of a path below the root; that of a collection ends in "/"."""
        whole = f"{self.root.path}/{encoded(path)}" if path else self.root.path
        whole = f"{whole}/" if collection or not whole else whole
        return WebUrl(self.root.scheme, self.root.host, self.root.port, whole, None)

    def destinations(self, path: str) -> tuple[str, ...]:
        """Return the possible forms of a path's Destination (RFC 4918 10.3), in the order in which they are tried.

        Behind a proxy a server may know itself by another host name, or by http instead of https.
        """
        url = self.url(path)
        return url.text, url.path, WebUrl("http", url.host, url.port, url.path, None).text

    def sibling(self, path: str) -> "DavAddress":
        """Return the address of another absolute path, percent-encoded, at the same host."""
        return DavAddress(WebUrl(self.root.scheme, self.root.host, self.root.port, path, None))

    @property
    def path(self) -> str:
        """The root's path, decoded, "/" included."""
        return decoded(self.root.path) or "/"


@dataclass(frozen=True, slots=True)
class Cloud:
    """An ownCloud or Nextcloud server, recognised by its WebDAV paths."""

    base: str
    """The path before "/remote.php", percent-encoded."""
    user: str
    """Percent-encoded."""

    @property
    def uploads(self) -> str:
        """The path of the collection that holds the user's uploads in chunks."""
        return f"{self.base}/remote.php/dav/uploads/{self.user}"

    @property
    def capabilities(self) -> str:
        """The path of the server's capabilities, without the query."""
        return f"{self.base}/ocs/v1.php/cloud/capabilities"


def cloud_of(address: DavAddress, username: str | None) -> Cloud | None:
    """Return the cloud if an address has the form of one, None for any other server."""
    if found := _FILES.match(address.root.path):
        return Cloud(found["base"], found["user"])
    found = _WEBDAV.match(address.root.path)
    return Cloud(found["base"], encoded(username)) if found and username else None


def encoded(path: str) -> str:
    """Percent-encode a path, all but unreserved characters (RFC 3986 2.3) and "/"."""
    return quote(path.encode("utf-8", "surrogateescape"), safe="/-._~")


def decoded(path: str) -> str:
    """Undo percent-encoding; bytes that are not UTF-8 become lone surrogates."""
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


def segments_of(href: str) -> tuple[str, ...]:
    """Return the segments of an href's path, decoded, without those that are empty.

    An href is a path or a whole URL (RFC 4918 8.3), whose host is ignored.
    """
    path = href.strip()
    if not path.startswith("/"):
        _, _, rest = path.partition("://")
        path = f"/{rest.partition('/')[2]}" if rest else f"/{path}"
    return tuple(decoded(segment) for segment in path.split("/") if segment)
