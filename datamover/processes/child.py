"""An engine process as its parent sees it: its configuration, its status messages, its log lines and its exit."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency import modules
from datamover.concurrency.waiters import Waiters
from datamover.processes.messages import ChildConfig, StatusMessage

log = Logger()

MODULE = "datamover.engine_process"
PATIENCE = 15.0
"""Seconds that a stop may take before the process is killed; more than the process allows itself."""
SILENCE = 10.0
"""Seconds without a status message after which a process counts as not working."""


class Child(ProcessProtocol):
    """One engine process."""

    def __init__(
        self,
        reactor: Any,
        config: ChildConfig,
        *,
        on_status: Callable[[StatusMessage], None],
        on_log: Callable[[int, Mapping[str, Any]], None],
    ) -> None:
        """Start the process.

        ``on_status`` is called with each status message, ``on_log`` with the process id and one line of its log.
        """
        self.node = config.node
        self.clean = False
        """Whether it exited with status 0."""
        self.how = ""
        """How it ended, as the predicate of a sentence: "ended with status 1"."""
        self._reactor = reactor
        self._on_status = on_status
        self._on_log = on_log
        self._status = StatusMessage(False)
        self._status_at = 0.0
        self._unfinished_line = b""
        self._gone = False
        self._ended: Waiters[None] = Waiters()
        self._hurry: IDelayedCall | None = None
        command = modules.command(MODULE)
        self._transport: Any = reactor.spawnProcess(self, command[0], command, modules.environment())
        self.pid = int(self._transport.pid)
        self._transport.write(config.line().encode())

    @property
    def working(self) -> bool:
        """Whether it takes work, by its last status message; False when that is older than ``SILENCE``."""
        return self._status.working and self._reactor.seconds() - self._status_at < SILENCE

    @property
    def troubles(self) -> tuple[str, ...]:
        """A sentence for each of its loops that does not turn."""
        return self._status.troubles

    async def ended(self) -> None:
        """Complete when the process has ended; cancelling only stops the waiting."""
        if not self._gone:
            await self._ended.wait()

    def end(self) -> None:
        """Ask the process to hand back its work and exit; kill it after ``PATIENCE`` seconds."""
        if not self._gone and self._hurry is None:
            self._transport.closeStdin()
            self._hurry = self._reactor.callLater(PATIENCE, self._transport.signalProcess, "KILL")

    # ProcessProtocol ------------------------------------------------------------------------------------------

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        *lines, self._unfinished_line = (self._unfinished_line + data).split(b"\n")
        for line in lines:
            self._take(line)

    def errReceived(self, data: bytes) -> None:  # noqa: N802
        for line in data.decode("utf-8", "replace").splitlines():
            self._log_stray(line)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        if self._unfinished_line:
            self._take(self._unfinished_line)
        if self._hurry is not None and self._hurry.active():
            self._hurry.cancel()
        ending: Any = reason.value
        self.clean = reason.check(ProcessDone) is not None
        self.how = f"was ended by signal {ending.signal}" if ending.signal else f"ended with status {ending.exitCode}"
        self._gone = True
        self._status = StatusMessage(False)
        self._ended.wake(None)

    def _take(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
            status = None if "message" in fields else StatusMessage.from_fields(fields)
        except (ValueError, LookupError, TypeError):
            self._log_stray(line.decode("utf-8", "replace"))
            return
        if status is None:
            self._on_log(self.pid, fields)
            return
        self._status, self._status_at = status, self._reactor.seconds()
        try:
            self._on_status(status)
        except Exception:  # An exception here would close the pipe that brings the next message.
            log.failure("engine process {process}: a status message could not be handled", process=self.pid)
        if status.stuck and self._hurry is None:
            troubles = "; ".join(status.troubles)
            log.error("engine process {process} hangs and is replaced: {what}", process=self.pid, what=troubles)
            self.end()

    def _log_stray(self, line: str) -> None:
        """Log output that is no message of the protocol, such as a traceback that Python prints itself."""
        log.warn("engine process {process} says: {line}", process=self.pid, line=line)
