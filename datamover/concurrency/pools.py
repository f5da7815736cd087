"""The thread pools of one process, one for each kind of work, so that work that hangs delays no other kind.

Each local destination, each SFTP destination (for its key files), logins, host names and the embedded database have
pools of their own. The reactor's pool is used by nobody.
"""

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from datamover.bounds.work import ARCHIVES_AT_ONCE, DATASETS_AT_ONCE
from datamover.concurrency.fair_share import FairQueue, FairShare
from datamover.concurrency.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 5
"""nice(2) of the threads that compute, so that calls go first. With fifty archives it halved the time of a status."""
STAGING = 8
"""Operations on directories of the staging disk at a time."""


class SharedThreads(Threads):
    """Threads of which each owner who waits has a share."""

    def __init__(self, reactor: Any, name: str, size: int, niceness: int = 0) -> None:
        super().__init__(reactor, name, size, niceness)
        self.places = FairQueue(FairShare(lambda: size))

    async def finish_shared(
        self, owner: str, hurry: Callable[[], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like ``finish_hurried``, within the share of ``owner``; cancelling while it waits leaves the queue."""
        async with self.places.held(owner):
            return await self.finish_hurried(hurry, call, *args, **kwargs)


class Pools:
    """The pools; their threads start when first needed."""

    def __init__(self, reactor: Any) -> None:
        self.archives = SharedThreads(reactor, "archives", ARCHIVES_AT_ONCE, NICENESS)
        self.datasets = SharedThreads(reactor, "datasets", DATASETS_AT_ONCE)
        self.digests = Threads(reactor, "digests", max(2, os.cpu_count() or 1), NICENESS)
        self.staging = Threads(reactor, "staging", STAGING)

    async def close(self) -> None:
        """Stop the threads; completes when every call has ended."""
        every = (self.archives, self.datasets, self.digests, self.staging)
        await DeferredList([Deferred.fromCoroutine(each.close()) for each in every])
