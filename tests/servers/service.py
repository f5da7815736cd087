"""datamover as an operator runs it: a separate process, called over XML-RPC."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import ServerProxy

from tests.servers.ports import free_port
from tests.servers.preloaded import Forked, Program, preloaded

TWISTD = Path(sys.executable).with_name("twistd")
Command = Callable[[Path], list[str] | Program]
PATIENCE = 60.0
"""Seconds that a start, a stop or a job may take."""


class Moment(NamedTuple):
    """A time of ``Service.moment``, seconds."""

    passed: float
    worked: float


class Service:
    """``twistd -n datamover`` with a configuration file of ``tables``; all its files are below ``directory``.

    ``command`` replaces it, and is given the configuration file; a command line is run as it is.
    """

    def __init__(self, directory: Path, tables: str, *, command: Command | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.config = directory / "datamover.toml"
        self.log = directory / "datamover.log"
        listen = f'listen = ["tcp:{self.port}:interface=127.0.0.1"]'
        self.config.write_text(f'[service]\n{listen}\ndata_directory = "{directory}/data"\n{tables}')
        self.command: Command = command or program
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._proxy: ServerProxy | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/data_mover"

    @property
    def proxy(self) -> Any:
        """A client, closed when the service ends; for one thread."""
        if self._proxy is None:
            self._proxy = ServerProxy(self.url)
        return self._proxy

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start and wait until it is ready to work."""
        self.launch(environment)
        self._until(self._ready)

    def start_behind_a_login(self) -> None:
        """Start and wait until ``/health/ready`` reports that it is ready, which needs no login."""
        self.launch(None)
        self._until(self._healthy)

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it without waiting."""
        command = self.command(self.config)
        line = command.line if isinstance(command, Program) else command
        everything = {**os.environ, **(environment or {})}
        with self.log.open("ab") as log:
            # An environment of its own may be meant for the interpreter, or for the loader.
            if isinstance(command, Program) and not environment:
                self._process = preloaded(command.module).start(command, self.directory, everything, log)
            else:
                self._process = subprocess.Popen(
                    line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=everything
                )

    def _ready(self) -> bool:
        with ServerProxy(self.url) as proxy:
            status: Any = proxy.service.status()
            return bool(status["ready"])

    def _healthy(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready") as page:
            return bool(page.status == 200)

    def _until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if ready():
                    return
            assert self._process is not None
            assert self._process.poll() is None, f"it ended:\n{self.log.read_text()}"
            time.sleep(0.05)
        raise AssertionError(f"it is not ready:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop it as a supervisor would."""
        self._end(signal.SIGTERM)

    def stopped(self, within: float) -> float:
        """Stop it as a supervisor would; return the seconds taken, which must not exceed ``within``."""
        process = self._process
        assert process is not None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not stop:\n{self.log.read_text()}") from None
        seconds = time.monotonic() - began
        self._end(signal.SIGTERM)
        return seconds

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._end(signal.SIGKILL)

    def stop_impatiently(self) -> int:
        """Send SIGTERM repeatedly until the process ends; return the exit status."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < deadline, f"it did not stop:\n{self.log.read_text()}"
            process.send_signal(signal.SIGTERM)
            time.sleep(0.01)
        self._process = None
        return process.wait()

    def _end(self, number: int) -> None:
        if self._proxy is not None:
            self._proxy("close")()
            self._proxy = None
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"it did not stop:\n{self.log.read_text()}") from None

    def ended(self, job: int) -> dict[str, Any]:
        """Wait until a job is terminal; return its status."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            status: Any = self.proxy.jobs.wait(job, 5)
            if status["status"] in ("COMPLETED", "PARTIAL", "FAILED", "CANCELLED"):
                return dict(status)
        raise AssertionError(f"job {job} does not end: {status}\n{self.log.read_text()}")

    def memory(self) -> int:
        """Return the process's peak memory in bytes."""
        return self._status("VmHWM")

    def resident(self) -> int:
        """Return the process's memory in bytes."""
        return self._status("VmRSS")

    def moment(self) -> Moment:
        """Return now, for ``since``."""
        # clock_getcpuclockid(3), which Python does not have.
        return Moment(time.monotonic(), time.clock_gettime(~self.pid << 3 | 2))

    def since(self, moment: Moment) -> float:
        """Return the seconds since a moment, or those that its process had of the processors, whichever are fewer.

        What a machine has to do besides is in the first alone, what other threads of the process do at the same time in
        the second.
        """
        return min(now - then for now, then in zip(self.moment(), moment, strict=True))

    def _status(self, key: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{key}:"))


def program(config: Path) -> Program:
    """Return what ``twistd`` runs, to be forked."""
    start, *arguments = twistd(config)
    return Program("twisted.scripts.twistd", (start,), tuple(arguments))


def twistd(config: Path) -> list[str]:
    return [str(TWISTD), "-n", "--pidfile=", "datamover", "--config", str(config)]
