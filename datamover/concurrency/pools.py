"""The threads of one process, apart by what is done in them: what holds up work of one kind holds up no other.

Others have threads of their own: each destination on this machine, each SFTP destination (for its key files), the
logins, the names (``names``), the embedded database. So nothing is left to the reactor's own.
"""

import os
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from datamover.concurrency.threads import Threads

ARCHIVES = 4
"""Made at once: more of them would not get more from one disk."""
DATASETS = 4
"""Child processes at once; a thread waits for each."""
NICENESS = 5
"""Of what computes: whoever only asks goes first. Fifty archives under way, it halved what a status takes."""
STAGING = 8
"""Directories of the staging disk that are made, looked at or removed at once."""


class Pools:
    """Started when first needed."""

    def __init__(self, reactor: Any) -> None:
        self.archives = Threads(reactor, "archives", ARCHIVES, NICENESS)
        self.datasets = Threads(reactor, "datasets", DATASETS)
        self.digests = Threads(reactor, "digests", max(2, os.cpu_count() or 1), NICENESS)
        self.staging = Threads(reactor, "staging", STAGING)

    async def close(self) -> None:
        """End the threads; completes when every call has run to its end."""
        every = (self.archives, self.datasets, self.digests, self.staging)
        await DeferredList([Deferred.fromCoroutine(each.close()) for each in every])
