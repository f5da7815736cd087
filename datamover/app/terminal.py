"""The terminal that the service is started from, as the process that will run speaks to it.

In the background twistd forks: the process that the terminal waits for learns over a pipe of twistd's whether the
other has started, but is told no more than a hundred bytes of why it has not, and has the reader look into the log. So
there is a pipe of our own, which is read before twistd's.
"""

import os
import sys
from typing import Any

from twisted.application.app import ServerOptions


class Terminal:
    """Standard error, as it was when the service was made."""

    @classmethod
    def of(cls, runner: Any) -> "Terminal":
        """Return the terminal of a start with these options of twistd's; anything else runs in the foreground."""
        return Forked() if isinstance(runner, ServerOptions) and not runner["nodaemon"] else cls()

    def say(self, line: str) -> None:
        """Write a line."""
        if sys.__stderr__ is not None:
            sys.__stderr__.write(f"{line}\n")
            sys.__stderr__.flush()

    def leave(self) -> None:
        """Let the terminal go: the process has started, and has nothing more to say there."""


class Forked(Terminal):
    """The same for a process that twistd has yet to fork off; made by the one that is asked to start it."""

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
        """In the process that was asked: wait until the other has started, or end with what that said."""
        if os.getpid() != self._asked:
            return  # twistd forks twice, and this is the second time.
        os.close(self._tell)
        said = b""
        while more := os.read(self._hear, 4096):
            said += more
        os.close(self._hear)
        if said:
            super().say(said.decode().rstrip("\n"))
            os._exit(1)
