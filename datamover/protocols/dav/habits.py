"""What a server makes of names and conditions: tried once, in a directory of its own, and remembered."""

import os
import posixpath
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError
from datamover.protocols.dav.files import DavFiles
from datamover.protocols.dav.service import Refused
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.part_files.names import PREFIX

log = Logger()

ODD = "%41?;#"
"""What a name ends in whose Destination is misread by servers that decode it before they take it apart."""

AGAIN = 600.0
"""Seconds after which what could not be found out is tried again."""

_SIGNS = frozenset("%?;#")


class Habits:
    """What is known of one server; until it is known, what is the safest is done."""

    def __init__(self, files: DavFiles, conditions: Conditions, seconds: Callable[[], float]) -> None:
        """``conditions`` is told whether "Overwrite: F" is honoured (RFC 4918 10.6).

        ``seconds`` is a monotonic clock.
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

    async def learn(self) -> None:
        """Try, unless that was done. What fails leaves it unknown for a while. Cancelling lets it go on."""
        lately = self._asked is not None and self._seconds() - self._asked < AGAIN
        if self._known or (lately and not self._asking):
            return
        waiting = self._waiting.wait()
        if not self._asking:
            self._asking, self._asked = True, self._seconds()
            Deferred.fromCoroutine(self._ask()).addErrback(lambda why: log.failure("the server was not tried out", why))
        await waiting

    def check(self, path: str) -> None:
        """Raise the error for a name that the server would misread."""
        if not self.takes_odd and not _SIGNS.isdisjoint(path):
            raise self._files.refusals.unusable(
                path, "has one of the signs %, ?, ; and # in its name, which the server misreads; take another name"
            )

    async def _ask(self) -> None:
        try:
            self._known = await self._tried(PREFIX) or await self._tried(PREFIX.removeprefix("."))
        finally:
            self._asking = False
            self._waiting.wake(None)

    async def _tried(self, prefix: str) -> bool:
        """Try in a directory whose name begins so; tell whether all was found out."""
        directory = f"{prefix}probe-{os.urandom(8).hex()}"
        try:
            await self._try_in(directory)
        except (DataMoverError, Refused):
            return False  # Whoever uses the server next meets it, and is told.
        finally:
            with suppress(DataMoverError):
                await self._files.delete(directory, collection=True)
            self._files.learnt.directories.pop(directory, None)
        self.takes_hidden = self.takes_hidden and prefix == PREFIX
        return True

    async def _try_in(self, directory: str) -> None:
        files, name, plain, odd = self._files, f"{directory}/.a", f"{directory}/b", f"{directory}/b{ODD}"
        if not directory.startswith("."):
            name = f"{directory}/a"
        await files.put(plain, b"", None)
        await files.put(name, b"", None)
        try:
            await files.move(name, plain, replace=False)
            self._conditions.honoured = False
            await files.put(name, b"", None)
        except Refused as refusal:
            self._conditions.honoured = True if refusal.status == 412 else None
        try:
            await files.move(plain, odd, replace=False)
            refused = False
        except Refused:
            refused = True  # Then it is refused whenever it is used.
        names = await files.names(directory)
        self.takes_hidden = posixpath.basename(name) in names
        self.takes_odd = refused or f"b{ODD}" in names
