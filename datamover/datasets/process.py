"""Run a module in a process of its own, whose CPU time and memory are not the service's.

The child reads one JSON request from its standard input and writes JSON lines; ``datasets.child`` is its side. On this
side a thread waits for the lines.
"""

import json
import subprocess
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from datamover.bounds.datasets import CLEANING_SILENCE
from datamover.concurrency import modules
from datamover.errors import DataMoverError, InternalError, Scope, Stalled

log = Logger()

Progress = Callable[[Mapping[str, Any]], None]
InThread = Callable[[Callable[[], object], Callable[[], Mapping[str, Any]]], Awaitable[Mapping[str, Any]]]
"""Calls the second function in a thread, and the first to end it soon, as ``Threads.finish_hurried`` does."""

LOOKS = 10
"""How often in that time the silence is checked."""
KEPT_LINES = 30
"""The last lines of a child that ends without a result, for the log."""


async def run_module(
    reactor: Any,
    thread: InThread,
    module: str,
    request: Mapping[str, Any],
    progress: Progress,
    silence: float = CLEANING_SILENCE,
) -> Mapping[str, Any]:
    """Run ``python -m module`` with ``request`` and return its result; ``progress`` is called on the reactor's thread.

    ``thread`` is where the process is waited for. ``progress`` is told {} when it starts. Raises the error that the
    process writes, Stalled where it writes nothing for ``silence`` seconds, and InternalError where it ends without a
    result. Cancelling kills the process; completes when it is gone.
    """
    child = _Child(module, json.dumps(request), lambda told: reactor.callFromThread(child.report, progress, told))
    watch = LoopingCall(child.look, silence)
    watch.clock = reactor
    watch.start(silence / LOOKS, now=False)
    try:
        # Its files must not be touched before it is gone.
        return await thread(child.kill, child.run)
    finally:
        watch.stop()


class _Child:
    """One process; ``run`` is called in a thread, ``kill`` and ``report`` on the reactor's."""

    def __init__(self, module: str, request: str, told: Progress) -> None:
        self._module = module
        self._request = request
        self._told = told
        self._lock = threading.Lock()
        self._killed = False
        self._silent = 0.0
        self._heard_at = monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._other: deque[str] = deque(maxlen=KEPT_LINES)

    def run(self) -> Mapping[str, Any]:
        """Start the process and wait for its end."""
        with self._lock:
            if self._killed:
                raise CancelledError
            self._process = process = _start(self._module)
            self._heard_at = monotonic()
        self._told({})
        with process:
            outcome = self._converse(process)
        if outcome is not None and "result" in outcome:
            return dict(outcome["result"])
        if outcome is not None:
            raise error_of(outcome["error"])
        if self._silent:
            raise Stalled(f"{self._module} said nothing for {self._silent:.0f} s and was ended", scope=Scope.SERVICE)
        if not self._killed:
            log.error(
                "{module} ended with {status} and said: {lines}",
                module=self._module,
                status=process.returncode,
                lines="\n".join(self._other),
            )
        raise InternalError(f"{self._module} ended with status {process.returncode} and without a result")

    def _converse(self, process: "subprocess.Popen[str]") -> Mapping[str, Any] | None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin as stdin:
                stdin.write(self._request)
        except BrokenPipeError:
            pass  # Its status and its lines tell more.
        outcome = None
        for line in process.stdout:
            self._heard_at = monotonic()
            told = _parsed(line)
            if told is None:
                self._other.append(line.rstrip())
            elif "progress" in told:
                self._told(told["progress"])
            else:
                outcome = told
        process.wait()
        return outcome

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def look(self, silence: float) -> None:
        """Kill a process that has written nothing for ``silence`` seconds."""
        waited = monotonic() - self._heard_at
        if self._process is not None and waited >= silence and not self._killed:
            self._silent = waited
            self.kill()

    def report(self, progress: Progress, told: Mapping[str, Any]) -> None:
        if not self._killed:
            progress(told)


def _start(module: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - this very Python and a module of ours
        modules.command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=modules.environment(),
        start_new_session=True,
    )


def _parsed(line: str) -> Mapping[str, Any] | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and any(key in told for key in ("progress", "result", "error")) else None


def error_of(told: Mapping[str, Any]) -> DataMoverError:
    """Return the error that a child wrote, by its code."""
    kind = next((kind for kind in _family(DataMoverError) if kind.code == told.get("code")), InternalError)
    scope = next((scope for scope in Scope if scope.value == told.get("scope")), None)
    return kind(str(told.get("message")), scope=scope)


def _family(kind: type[DataMoverError]) -> list[type[DataMoverError]]:
    return [found for child in kind.__subclasses__() for found in (child, *_family(child))]
