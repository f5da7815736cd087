"""An engine process as the one that started it sees it: its brief, its words, its log, its end."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency import modules
from datamover.processes.messages import ChildConfig, StatusMessage

log = Logger()

MODULE = "datamover.engine_process"
PATIENCE = 15.0
"""Seconds that an end may take: more than the process gives itself."""
SILENCE = 10.0
"""Seconds without a word after which a process is not believed to work."""


class Child(ProcessProtocol):
    """One process."""

    def __init__(
        self,
        reactor: Any,
        brief: ChildConfig,
        *,
        hear: Callable[[StatusMessage], None],
        logged: Callable[[int, Mapping[str, Any]], None],
    ) -> None:
        """Start it; ``hear`` its words; ``logged`` is called with its process id and a line of its log."""
        self.node = brief.node
        self.clean = False
        """Whether it ended by itself and in order."""
        self.how = ""
        """How it ended, as the end of a sentence."""
        self._reactor = reactor
        self._hear = hear
        self._logged = logged
        self._told = StatusMessage(False)
        self._told_at = 0.0
        self._said = b""
        self._gone = False
        self._waiting: list[Deferred[None]] = []
        self._hurry: IDelayedCall | None = None
        command = modules.command(MODULE)
        self._transport: Any = reactor.spawnProcess(self, command[0], command, modules.environment())
        self.pid = int(self._transport.pid)
        self._transport.write(brief.line().encode())

    @property
    def working(self) -> bool:
        """Whether it takes work, as far as one hears."""
        return self._told.working and self._reactor.seconds() - self._told_at < SILENCE

    @property
    def troubles(self) -> tuple[str, ...]:
        """What loops of it do not turn, in words."""
        return self._told.troubles

    async def ended(self) -> None:
        """Complete when it is gone; cancelling ends the waiting alone."""
        if not self._gone:
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter

    def end(self) -> None:
        """Have it hand back its work and end; kill it should it not."""
        if not self._gone and self._hurry is None:
            self._transport.closeStdin()
            self._hurry = self._reactor.callLater(PATIENCE, self._transport.signalProcess, "KILL")

    # ProcessProtocol ------------------------------------------------------------------------------------------

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            self._take(line)

    def errReceived(self, data: bytes) -> None:  # noqa: N802
        for line in data.decode("utf-8", "replace").splitlines():
            self._says(line)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        if self._said:
            self._take(self._said)
        if self._hurry is not None and self._hurry.active():
            self._hurry.cancel()
        ending: Any = reason.value
        self.clean = reason.check(ProcessDone) is not None
        self.how = f"was ended by signal {ending.signal}" if ending.signal else f"ended with status {ending.exitCode}"
        self._gone = True
        self._told = StatusMessage(False)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            word = None if "message" in told else StatusMessage.from_told(told)
        except (ValueError, LookupError, TypeError):
            self._says(line.decode("utf-8", "replace"))
            return
        if word is None:
            self._logged(self.pid, told)
            return
        self._told, self._told_at = word, self._reactor.seconds()
        try:
            self._hear(word)
        except Exception:  # It must not end the pipe over which the next word comes.
            log.failure("a word of engine process {process} is not understood", process=self.pid)
        if word.stuck and self._hurry is None:
            log.error("engine process {process} hangs: {what}", process=self.pid, what="; ".join(word.troubles))
            self.end()

    def _says(self, line: str) -> None:
        """What comes past the protocol: a traceback of Python's own, for one."""
        log.warn("engine process {process} says: {line}", process=self.pid, line=line)
