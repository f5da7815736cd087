"""Sources that must be at their end what they were when they were opened: others may write a file in place meanwhile.

A web server sends a file as it is at that moment, under the headers that it had at the beginning. If it is written in
place while it is sent, beginning and end are of two versions, and only the headers of a later answer show it.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.errors import DataMoverError
from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.answers import Head, holds_whole, is_settled, ranges_given, size_of, strong_tag
from datamover.protocols.http.around import AroundSource
from datamover.protocols.http.dates import http_date

QUICK = 1.0
"""Seconds: a small file that is read in less time is not looked at again, since servers' times have whole seconds."""
LARGE = 2**20
"""Bytes from which on a file is looked at again even if it was read in less time."""
PATIENCE = 10.0
"""Seconds that the looks may take."""
LOOKS = 3
"""Most looks: servers behind one name may report different times and tags of a file; one that agrees is enough."""


@dataclass(frozen=True, slots=True)
class Version:
    """What the head of an answer tells of the version of a file; each is None if it does not."""

    size: int | None = None
    """Bytes."""
    tag: str | None = None
    """A strong ETag."""
    modified: float | None = None
    """POSIX seconds."""
    settled: bool = False
    """Whether every later change gets another ``modified``; that is then not the time of the answer either."""
    lasting: bool = False
    """Whether ``modified`` is not the time of the answer, as it is for a page that is made anew for each request."""

    @classmethod
    def told(cls, head: Head) -> Self:
        """Return what the answer to a GET or HEAD tells; a coded body has another size than the file."""
        size, modified, settled = size_of(head), http_date(head.header("Last-Modified")), is_settled(head)
        return cls(None if head.codings else size, strong_tag(head), modified, settled, settled or ranges_given(head))

    @classmethod
    def of(cls, inspection: Inspection) -> Self:
        """Return what is known of a file whose server left out what the client knew (RFC 9110 15.3.7)."""
        kind, _, rest = (inspection.identity or "").partition(" ")
        modified = http_date(rest.rpartition(" ")[0]) if kind == "date" else None
        known = modified is not None
        return cls(inspection.size, modified=modified, settled=known, lasting=known)

    def differs(self, now: Self) -> bool:
        """Tell whether a later answer shows that the file was changed after this one.

        A tag alone does not show it if the time is the same: servers derive tags from more than the content. A size of
        0 does not count: programs behind a web server often send it for HEAD.
        """
        if self.size and now.size and self.size != now.size:
            return True
        if None not in (self.modified, now.modified) and (self.lasting or now.settled):
            if self.modified != now.modified:
                return True
            if self.settled:
                return False
        return None not in (self.tag, now.tag) and self.tag != now.tag

    def __bool__(self) -> bool:
        """Tell whether a change could be noticed."""
        return self.tag is not None or self.modified is not None


class SteadySource(AroundSource):
    """A source whose last read raises an error if the file was changed since it was opened."""

    def __init__(
        self, source: Source, clock: IReactorTime, check: Callable[[], Coroutine[Deferred[Any], Any, None]]
    ) -> None:
        """``check`` raises the error; it is cancelled after ``PATIENCE``, and the file counts as unchanged."""
        super().__init__(source)
        self._clock = clock
        self._check = check
        self._since = clock.seconds()
        self._came = 0

    async def read(self) -> Octets:
        data = await self._source.read()
        self._came += len(data)
        if not data and (self._came >= LARGE or self._clock.seconds() - self._since > QUICK):
            checking = Deferred.fromCoroutine(self._check())
            await checking.addTimeout(PATIENCE, self._clock, onTimeoutCancel=lambda *_: None)
        return data


async def is_changed(then: Version, ask: Callable[[], Awaitable[Head]]) -> bool:
    """Tell whether a file was changed, as far as its server tells; ``ask`` returns the head of an answer to HEAD."""
    for _ in range(LOOKS):
        try:
            head = await ask()
        except DataMoverError:
            return False
        now = Version.told(head)
        # It may be another page, such as for a login that has expired meanwhile.
        is_file = holds_whole(head) and head.url == head.asked and bool(now)
        if not is_file or not then.differs(now):
            return False
    return True
