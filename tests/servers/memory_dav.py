"""A WebDAV server in memory that misbehaves as it is told, for faults that no real server produces on request."""

from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers.exchange import Exchange

Fault = Callable[[Exchange], bool]
"""Answers an exchange and returns True, or leaves it to the server."""
MODIFIED = 1_700_000_000.0


class MemoryDav:
    """The handler of a ``Web`` for all paths; ``faults`` are asked first, in order."""

    def __init__(self, root: str = "/dav") -> None:
        self.root = root
        self.files: dict[str, bytes] = {}
        """Content by path below the root."""
        self.directories = {""}
        self.faults: list[Fault] = []
        self.checksums: dict[str, str] = {}
        """What oc:checksum tells, by path."""
        self.quota: str | None = None
        self.host = ""
        """Precedes the paths in hrefs, such as a scheme and a host."""
        self.quote: Callable[[str], str] = quote
        self.tag: Callable[[str], str] = lambda path: f'"{hash(self.files[path]):x}"'
        """Returns the ETag of the file at a path."""

    def __call__(self, exchange: Exchange) -> None:
        if any(fault(exchange) for fault in self.faults):
            return
        method, path = exchange.request.method, self.path(exchange.request.target)
        handler = getattr(self, f"_{method.lower()}", None)
        if handler is None:
            exchange.answer(405)
        else:
            handler(exchange, path)

    def path(self, url: str) -> str:
        """Return the path below the root that a URL or request target names."""
        return unquote(urlsplit(url).path).removeprefix(self.root).strip("/")

    def _propfind(self, exchange: Exchange, path: str) -> None:
        if path not in self.files and path not in self.directories:
            exchange.answer(404)
            return
        found = [path]
        if exchange.request.headers.get("depth") == "1" and path in self.directories:
            found += [each for each in {*self.files, *self.directories} - {""} if each.rpartition("/")[0] == path]
        body = "".join(map(self._response, found))
        self.multistatus(exchange, body)

    def multistatus(self, exchange: Exchange, body: str) -> None:
        """Answer with a multistatus that holds ``body``."""
        text = f'<?xml version="1.0"?><x:multistatus xmlns:x="DAV:" xmlns:o="http://owncloud.org/ns">{body}'
        exchange.answer(207, [("Content-Type", "application/xml")], f"{text}</x:multistatus>".encode())

    def _response(self, path: str) -> str:
        if path in self.directories:
            props = "<x:resourcetype><x:collection/></x:resourcetype>"
        else:
            props = (
                f"<x:resourcetype/><x:getcontentlength>{len(self.files[path])}</x:getcontentlength>"
                f"<x:getlastmodified>{formatdate(MODIFIED, usegmt=True)}</x:getlastmodified>"
                f"<x:getetag>{escape(self.tag(path))}</x:getetag>"
            )
            if path in self.checksums:
                props += f"<o:checksums><o:checksum>{self.checksums[path]}</o:checksum></o:checksums>"
        if self.quota is not None:
            props += f"<x:quota-available-bytes>{self.quota}</x:quota-available-bytes>"
        href = f"{self.host}{self.root}/{self.quote(path)}"
        known = f"<x:propstat><x:prop>{props}</x:prop><x:status>HTTP/1.1 200 OK</x:status></x:propstat>"
        unknown = "<x:propstat><x:prop><x:getetag/></x:prop><x:status>HTTP/1.1 404 Not Found</x:status></x:propstat>"
        return f"<x:response><x:href>{href}</x:href>{known}{unknown if path in self.directories else ''}</x:response>"

    def _get(self, exchange: Exchange, path: str) -> None:
        if path not in self.files:
            exchange.answer(404)
            return
        headers = [("ETag", self.tag(path)), ("Last-Modified", formatdate(MODIFIED, usegmt=True))]
        exchange.answer(200, headers, self.files[path])

    _head = _get

    def _put(self, exchange: Exchange, path: str) -> None:
        if path.rpartition("/")[0] not in self.directories:
            exchange.answer(409)
            return
        self.files[path] = exchange.request.body
        exchange.answer(201)

    def _mkcol(self, exchange: Exchange, path: str) -> None:
        if path in self.directories or path in self.files:
            exchange.answer(405)
            return
        self.directories.add(path)
        exchange.answer(201)

    def _delete(self, exchange: Exchange, path: str) -> None:
        if not self._fits(exchange.request.headers.get("if"), path):
            exchange.answer(412)
            return
        gone = [each for each in {*self.files, *self.directories} if each == path or each.startswith(f"{path}/")]
        for each in gone:
            self.files.pop(each, None)
            self.directories.discard(each)
        exchange.answer(204 if gone else 404)

    def _move(self, exchange: Exchange, path: str) -> None:
        target = self.path(exchange.request.headers["destination"])
        if path not in self.files:
            exchange.answer(404)
        elif not self._fits(exchange.request.headers.get("if"), target, exchange.request.headers["overwrite"]):
            exchange.answer(412)
        else:
            self.files[target] = self.files.pop(path)
            exchange.answer(201)

    def _fits(self, condition: str | None, target: str, overwrite: str = "T") -> bool:
        """Tell whether a file may be replaced or removed, by the headers If and Overwrite (RFC 4918 10.4, 10.6)."""
        if target in self.files and overwrite == "F":
            return False
        url, _, tag = (condition or "").removeprefix("<").removesuffix("])").partition("> ([")
        path = self.path(url)
        return condition is None or (path in self.files and self.tag(path) == tag)
