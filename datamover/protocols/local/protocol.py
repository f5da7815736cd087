"""The declaration of the protocol "file", and the threads of one destination."""

import posixpath
import time
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes, urlsplit
from weakref import WeakSet

from datamover.concurrency.threads import Threads
from datamover.errors import Scope
from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.beneath import decode
from datamover.protocols.local.files import LocalSink, LocalSource
from datamover.protocols.local.place import LocalPlace
from datamover.protocols.place import PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.web.paths import LONGEST_NAME

THREADS = 8
"""Threads of one destination, so that a slow one (a network file system) delays no other."""
UNDECLARED = frozenset({Ability.WRITE_WIDE})


class LocalPool:
    """``protocols.place.DestinationPool`` of a local directory: threads instead of connections."""

    server = ""

    def __init__(self, root: str, settings: PlaceSettings, reactor: Any) -> None:
        self._threads = Threads(reactor, f"destination-{settings.name}", THREADS)
        self._opened: WeakSet[LocalSource | LocalSink] = WeakSet()
        self.lacks = Lacks(time.monotonic, UNDECLARED)
        self._places = {
            side: LocalPlace(root, settings, side, self._threads, self._opened, self.lacks)
            for side in (Scope.SOURCE, Scope.DESTINATION)
        }

    def at(self, side: Scope) -> LocalPlace:
        return self._places[side]

    async def connect(self) -> None:
        """Make the root directory, if it is missing."""
        await self._places[Scope.DESTINATION].connect()

    async def volume(self) -> str:
        """Return the number of the file system that the root is on."""
        return await self._places[Scope.DESTINATION].volume()

    async def close(self) -> None:
        """Close all files and end the threads; completes when the calls in progress have ended."""
        for opened in list(self._opened):
            await opened.close()
        await self._threads.close()


class Local:
    """``protocols.place.PlaceProtocol`` of directories of this machine."""

    name: ClassVar[str] = "file"
    schemes: ClassVar[tuple[str, ...]] = ("file",)
    other_schemes: ClassVar[tuple[str, ...]] = ()
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability) - UNDECLARED
    counts_arriving: ClassVar[bool] = True
    longest_name: ClassVar[int] = LONGEST_NAME
    options: ClassVar[type[ProtocolOptions]] = ProtocolOptions

    def check_url(self, url: str) -> None:
        """Raise ValueError unless the URL is file:///ABSOLUTE/PATH."""
        parts = urlsplit(url)
        path = unquote_to_bytes(parts.path)
        unusable = parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith(b"/")
        if unusable or "?" in url or "#" in url or b"\0" in path or b".." in path.split(b"/"):
            raise ValueError('expected file:// and an absolute path, such as "file:///srv/archive"')

    def root(self, url: str) -> str:
        return "/" + posixpath.normpath(decode(unquote_to_bytes(urlsplit(url).path))).lstrip("/")

    def host(self, url: str) -> None:
        return None

    def user(self, url: str) -> None:
        return None

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> LocalPool:
        """Return the pool; it starts its threads when first used and ends them when closed."""
        return LocalPool(self.root(settings.url), settings, reactor)


LOCAL: PlaceProtocol = Local()
