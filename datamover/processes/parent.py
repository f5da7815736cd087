"""The parent as an engine process sees it: it receives the status messages, and the process ends when it does."""

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
"""Seconds between two status messages."""
WITHIN = 12.0
"""Seconds that a stop may take."""


class ParentLink(MetricsBuffer, Service):
    """Sends status messages; starts before all other services and stops after them, so the last one counts all."""

    def __init__(self, reactor: Any, pipe: int, write: Callable[[str], object]) -> None:
        """``pipe`` is the descriptor whose end of file stops this process.

        What ``write`` was given must not be lost if the process is killed right after.
        """
        super().__init__()
        self.working: Callable[[], bool] = lambda: False
        """Tells whether this process takes work."""
        self._reactor = reactor
        self._pipe = pipe
        self._write = write
        self.loops = Loops(reactor, self.loop_failed)
        self._sending = self.loops.loop("status messages")

    def startService(self) -> None:  # noqa: N802
        super().startService()
        # Replaces the reactor's own handler, which raises when the pipe ends too.
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        _ParentWatch(self._reactor, self._pipe, self._stop).startReading()
        self._sending.start(self._send_often)

    def stopService(self) -> "Deferred[None] | None":  # noqa: N802
        super().stopService()
        self._sending.stop()
        self.send(StatusMessage(False, self.take()))
        return None

    def send(self, status: StatusMessage) -> None:
        """Write a message; does nothing when the parent is gone."""
        try:
            self._write(status.line())
        except BrokenPipeError:
            return  # The parent died: ``pipe`` ends too, and stops this process.

    async def _send_often(self) -> None:
        while True:
            self.send(StatusMessage(self.working(), self.take(), troubles=self.loops.troubles, stuck=self.loops.stuck))
            self._sending.turned()
            await deferLater(self._reactor, EVERY)

    def _stop(self) -> None:
        end_within(WITHIN)
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):  # Stopped already: by a signal and the pipe's end, or by two signals.
            self._reactor.stop()


class _ParentWatch(FileDescriptor):
    """The reading end of a pipe that carries no data; calls ``ended`` at its end of file."""

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
