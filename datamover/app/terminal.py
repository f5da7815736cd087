"""Write errors of the start to the terminal that the service is started from.

In the background twistd forks, and the process that the terminal waits for learns over a pipe whether the other one has
started. That pipe carries a hundred bytes of an error at most. Therefore there is a second pipe, which is read first.
"""

import os
import sys
from typing import Any

from twisted.application.app import ServerOptions


class Terminal:
    """Standard error of a process in the foreground."""

    @classmethod
    def of(cls, runner: Any) -> "Terminal":
        """Return the terminal for twistd's options; every other runner stays in the foreground."""
        return ForkedTerminal() if isinstance(runner, ServerOptions) and not runner["nodaemon"] else cls()

    def say(self, line: str) -> None:
        """Write a line."""
        if sys.__stderr__ is not None:
            sys.__stderr__.write(f"{line}\n")
            sys.__stderr__.flush()

    def leave(self) -> None:
        """Release the terminal, once the process has started."""


class ForkedTerminal(Terminal):
    """The terminal of a process that twistd will fork; it is made before the fork."""

    def __init__(self) -> None:
        self._asked = os.getpid()
        self._hear, self._tell = os.pipe()
        os.register_at_fork(after_in_parent=self._wait)

    def say(self, line: str) -> None:
        os.write(self._tell, f"{line}\n".encode())

    def leave(self) -> None:
        os.close(self._hear)
        os.close(self._tell)

    def _wait(self) -> None:
        """In the first process: wait until the forked one has started, or write its error and exit with status 1."""
        if os.getpid() != self._asked:
            return  # twistd forks twice; this is the second fork.
        os.close(self._tell)
        said = b""
        while more := os.read(self._hear, 4096):
            said += more
        os.close(self._hear)
        if said:
            super().say(said.decode().rstrip("\n"))
            os._exit(1)
