"""How a server handles names, paths and conditions: tried once, in a directory made for that, and remembered."""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError
from datamover.protocols.dav.address import encoded, segments_of
from datamover.protocols.dav.documents import NAMES, Member, MultistatusParser
from datamover.protocols.dav.files import DavFiles
from datamover.protocols.dav.looks import DavLook, if_tagged
from datamover.protocols.dav.service import DavRefused
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.part_files.names import PREFIX

log = Logger()

ODD = "%41?;#"
"""The end of a name that servers misread in Destination if they decode it before they parse it."""

AGAIN = 600.0
"""Seconds after which a trial that failed is repeated."""

TRIAL = f"{PREFIX.removeprefix('.')}probe-"
"""The beginning of the name of a directory for trials."""
LEFT = 3600.0
"""Seconds after which a directory for trials counts as the leftover of a killed process."""

_SIGNS = frozenset("%?;#")
_TRIAL = re.compile(rf"{TRIAL}[0-9a-f]{{16}}")
_ONLY_NEW = {"If-None-Match": "*"}

Ask = Callable[[Mapping[str, str]], Awaitable[object]]
"""Sends a request with these headers."""


class Habits:
    """What was found out about one server; until then, the safest assumptions hold."""

    def __init__(self, files: DavFiles, conditions: Conditions, seconds: Callable[[], float]) -> None:
        """``conditions`` is told whether "Overwrite: F" is honoured (RFC 4918 10.6), and "If" (10.4) of a DELETE.

        ``files`` is told whether "If" is honoured of a MOVE. ``seconds`` is a monotonic clock.
        """
        self.takes_hidden = True
        """It takes names that begin with a dot, and lists them."""
        self.takes_odd = True
        """It reads every Destination as it was meant."""
        self._files = files
        self._conditions = conditions
        self._seconds = seconds
        self._known = False
        self._asking = False
        self._asked: float | None = None
        self._waiting: Waiters[None] = Waiters()
        self._now: float | None = None
        """When it was tried, by the server's clock, in POSIX seconds."""

    async def learn(self) -> None:
        """Run the trials, unless that was done. After an error they are repeated later. Cancelling lets them go on."""
        lately = self._asked is not None and self._seconds() - self._asked < AGAIN
        if self._known or (lately and not self._asking):
            return
        waiting = self._waiting.wait()
        if not self._asking:
            self._asking, self._asked = True, self._seconds()
            Deferred.fromCoroutine(self._ask()).addErrback(_unless_closed)
        await waiting

    def check(self, path: str) -> None:
        """Raise an error if the server would misread a name."""
        if not self.takes_odd and not _SIGNS.isdisjoint(path):
            raise self._files.refusals.unusable(
                path, "has one of the signs %, ?, ; and # in its name, which the server misreads; take another name"
            )

    async def _ask(self) -> None:
        try:
            self._known = await self._tried()
        finally:
            self._asking = False
            self._waiting.wake(None)
        if self._known and self._now is not None:
            await self._sweep(self._now)

    async def _tried(self) -> bool:
        """Run the trials in a directory; return whether all was found out.

        Its name does not begin with a dot, since leftovers are found by listing and some servers list no such names.
        """
        directory = f"{TRIAL}{os.urandom(8).hex()}"
        try:
            await self._try_in(directory)
        except (DataMoverError, DavRefused, Unreadable):
            return False  # The next request that meets the error reports it.
        finally:
            with suppress(DataMoverError):
                await self._files.delete(directory, collection=True)
            self._files.learnt.directories.pop(directory, None)
        return True

    async def _try_in(self, directory: str) -> None:
        files = self._files
        names = (".a", "a", "b", f"b{ODD}", "c", "d")
        hidden, name, plain, odd, other, removed = (f"{directory}/{each}" for each in names)
        for each in (name, plain, removed):
            await files.put(each, b"", None)
        await self._find_inner(directory)
        with suppress(DataMoverError):
            await files.put(hidden, b"", None)
        found = await files.members(directory)
        self.takes_hidden = ".a" in found
        self._now = max((each.modified for each in found.values() if each.modified is not None), default=None)
        refused = await _refused(files.move(name, plain, _ONLY_NEW))
        if refused is None:
            await files.put(name, b"", None)
        files.learnt.conditional = await self._heeds(plain, found.get("b"), partial(files.move, name, plain))
        url = files.service.address.url(removed)
        self._conditions.removes = await self._heeds(removed, found.get("d"), partial(files.service.ask, "DELETE", url))
        moved = await _refused(files.move(plain, odd, _ONLY_NEW)) is None
        # A server that refuses the name misreads none. Else both must show it: the path of a look may be misread alike.
        self.takes_odd = not moved or (f"b{ODD}" in await files.names(directory) and await files.look(odd) is not None)
        if refused is None or refused == 412:
            self._conditions.honoured = refused == 412
        else:
            # Another status than 412 may refuse any MOVE, unless a MOVE to an unused name succeeds.
            fresh = moved or await _refused(files.move(plain, other, _ONLY_NEW)) is None
            self._conditions.honoured = True if fresh and refused < 500 else None

    async def _find_inner(self, directory: str) -> None:
        """Find out whether a proxy changes the paths of requests, as hrefs show, but not that of a Destination."""
        files, found = self._files, list[Member]()
        address, learnt = files.service.address, files.learnt
        await files.service.find(address.url("", collection=True), 0, NAMES, MultistatusParser(found.append))
        told = segments_of(next((href for each in found for href in each.hrefs), address.root.path))
        if told == segments_of(address.root.path):
            return
        learnt.inner = address.sibling("".join(f"/{encoded(each)}" for each in told))
        source, target = f"{directory}/e", f"{directory}/f"
        await files.put(source, b"", None)
        if await _refused(files.move(source, target, _ONLY_NEW)) is not None or await files.look(target) is None:
            learnt.inner = None

    async def _heeds(self, path: str, found: DavLook | None, ask: Ask) -> bool:
        """Tell whether a condition is honoured: the request must fail with another ETag and succeed with the file's."""
        etag, url = found.etag if found is not None else "", self._files.service.address.url(path)
        return (
            bool(etag)
            and await _refused(ask(if_tagged(url, f"not-{etag}"))) == 412
            and await _refused(ask(if_tagged(url, etag))) is None
        )

    async def _sweep(self, now: float) -> None:
        """Remove directories for trials that are an hour old: their processes were killed."""
        try:
            for name, found in (await self._files.members("")).items():
                if _TRIAL.fullmatch(name) and found.collection and await self._is_left(name, found, now):
                    await self._files.delete(name, collection=True)
        except DataMoverError as error:
            log.warn("what an earlier trial of the server left could not be removed: {error}", error=error.full)

    async def _is_left(self, directory: str, found: DavLook, now: float) -> bool:
        """Tell whether a directory is old, and has only empty files, as trials make them."""
        inside = (await self._files.members(directory)).values()
        times = [each.modified for each in (found, *inside) if each.modified is not None]
        return all(each.size == 0 for each in inside) and bool(times) and max(times) <= now - LEFT


def _unless_closed(why: Failure) -> None:
    if not isinstance(why.value, CancelledError):
        log.failure("a trial of what a WebDAV server supports failed", why)


async def _refused(asked: Awaitable[object]) -> int | None:
    """Return the status by which a request is refused, None if it succeeds."""
    try:
        await asked
    except DavRefused as refusal:
        return refusal.status
    return None
