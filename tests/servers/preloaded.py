"""A process that has imported what a service imports when it starts, and forks itself for each service of the tests.

Imports are nine tenths of the processor time of a start, and the tests start hundreds of services. What is forked is a
process of its own in every other way: arguments, directory, environment, input and output are those it was given, and
its reactor, threads and files are made after the fork. Starts of the real programs are tested in ``test_first_hour``,
``test_packaging``, ``test_background``, ``test_processes``, and wherever a test names a command.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

MODULES = ("twisted.internet.epollreactor", "twisted.scripts.twistd", "datamover.tap")
"""What is imported; none of them makes a reactor, which must not be shared."""
_LONGEST = 2**20
"""Bytes of a request: arguments and environment."""


@dataclass(frozen=True)
class Program:
    """A program whose ``module`` has a function ``run``, which takes its arguments from ``sys.argv``.

    The module may have a function ``prepare`` that is to be called before datamover is imported.
    """

    module: str
    start: tuple[str, ...]
    """What starts it by itself."""
    arguments: tuple[str, ...]

    @property
    def line(self) -> list[str]:
        """Its command line."""
        return [*self.start, *self.arguments]


class Forked:
    """A process that was forked, as ``subprocess.Popen`` shows one."""

    def __init__(self, pid: int, preloaded: "Preloaded") -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._preloaded = preloaded
        # Its parent keeps a process that has ended until ``_reap``, so the number cannot be another's.
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return what it ended with, the negative number of a signal included; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return what it ended with. Raises TimeoutExpired after ``timeout`` seconds."""
        returncode = self._look(timeout)
        if returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and _readable(self._ended, timeout):
            self.returncode = self._preloaded.reap(self.pid)
            os.close(self._ended)
        return self.returncode


class Preloaded:
    """The process that is forked for the programs of one module."""

    def __init__(self, module: str) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            command = [sys.executable, "-m", __name__, module, str(theirs.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])

    def start(self, program: Program, directory: Path, environment: Mapping[str, str], output: IO[bytes]) -> Forked:
        """Start a program of this module; what it writes goes to ``output``."""
        request = {
            "line": [program.start[-1], *program.arguments],
            "directory": str(directory),
            "environment": dict(environment),
        }
        return Forked(self._ask(request, output.fileno()), self)

    def reap(self, pid: int) -> int:
        """Return what a process that has ended ended with."""
        return os.waitstatus_to_exitcode(self._ask({"reap": pid}))

    def end(self) -> None:
        """End it; what was forked goes on."""
        self._requests.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, object], *descriptors: int) -> int:
        with self._lock:
            socket.send_fds(self._requests, [json.dumps(request).encode()], descriptors)
            return int(self._requests.recv(_LONGEST))


@cache
def preloaded(module: str) -> Preloaded:
    """Return the one of this process for a module; it ends with this process."""
    started = Preloaded(module)
    atexit.register(started.end)
    return started


def _readable(descriptor: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _main(name: str, requests: socket.socket) -> None:
    module = import_module(name)
    if prepare := getattr(module, "prepare", None):
        prepare()
    for each in MODULES:
        import_module(each)
    assert "twisted.internet.reactor" not in sys.modules
    while True:
        text, descriptors, _, _ = socket.recv_fds(requests, _LONGEST, 1)
        if not text:
            return
        request = json.loads(text)
        if "reap" in request:
            requests.send(str(os.waitpid(request["reap"], 0)[1]).encode())
            continue
        pid = os.fork()
        if pid == 0:
            requests.close()
            _become(request, *descriptors)
            module.run()
            return
        os.close(descriptors[0])
        requests.send(str(pid).encode())


def _become(request: dict[str, Any], output: int) -> None:
    """Give this process what was asked for."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["line"]


if __name__ == "__main__":
    _main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
