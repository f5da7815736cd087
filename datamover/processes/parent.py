"""The parent as an engine process sees it: whom it tells how it is, and with whom it ends."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from datamover.concurrency.loops import Loops
from datamover.concurrency.stopping import end_within
from datamover.processes.messages import StatusMessage
from datamover.processes.metrics_buffer import MetricsBuffer

EVERY = 0.5
"""Seconds between two words."""
WITHIN = 12.0
"""Seconds that the end may take."""


class ParentLink(MetricsBuffer, Service):
    """Started before whatever else the process runs, and stopped after it: its last word is of all that happened."""

    def __init__(self, reactor: Any, pipe: int, write: Callable[[str], object]) -> None:
        """``pipe``: the descriptor whose end means ours; ``write`` must not lose what was written if we are killed."""
        super().__init__()
        self.working: Callable[[], bool] = lambda: False
        """Whether work is taken."""
        self._reactor = reactor
        self._pipe = pipe
        self._write = write
        self.loops = Loops(reactor, self.loop_failed)
        self._telling = self.loops.loop("words")

    def startService(self) -> None:  # noqa: N802
        super().startService()
        # In the stead of the reactor's own handler, which does not bear that the pipe ends as well.
        signal.signal(signal.SIGTERM, lambda *_: self._asked())
        _ParentWatch(self._reactor, self._pipe, self._asked).startReading()
        self._telling.start(self._tell)

    def stopService(self) -> "Deferred[None] | None":  # noqa: N802
        super().stopService()
        self._telling.stop()
        self.say(StatusMessage(False, self.take()))
        return None

    def say(self, word: StatusMessage) -> None:
        """Say it, if somebody listens."""
        try:
            self._write(word.line())
        except BrokenPipeError:
            return  # Our own pipe ends as well.

    async def _tell(self) -> None:
        while True:
            word = StatusMessage(self.working(), self.take(), troubles=self.loops.troubles, stuck=self.loops.stuck)
            self.say(word)
            self._telling.turned()
            await deferLater(self._reactor, EVERY)

    def _asked(self) -> None:
        end_within(WITHIN)
        self._reactor.callFromThread(self._end)

    def _end(self) -> None:
        with suppress(ReactorNotRunning):  # It ends already: a signal and the pipe's end, or two signals.
            self._reactor.stop()


class _ParentWatch(FileDescriptor):
    """The reading end of a pipe over which nothing comes but its end."""

    def __init__(self, reactor: Any, descriptor: int, ended: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._ended = ended

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> Exception | None:  # noqa: N802
        return None if os.read(self._descriptor, 4096) else ConnectionDone()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        super().connectionLost(reason)
        self._ended()
