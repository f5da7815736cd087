"""An SFTP server that misbehaves as it is told, over a real directory: for what no proper server does on command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.servers.ssh import NOBODY, SshServer
from tests.servers.wayward.misbehaviour import Misbehaviour

_CHECKOUT = Path(__file__).parents[3]


class Wayward(SshServer):
    """A server in a process of its own that serves ``root`` as OpenSSH would, but for its misbehaviours.

    ``version`` is what it calls itself in its first words: "OpenSSH_9.2p1" has clients take it for that.

        wayward = Wayward(open_directory)
        wayward.start()
        wayward.misbehave(Misbehaviour(WRITE, Way.KEEPS_BELOW, amount=4096, below="cell-1"))
        ... wayward.url, wayward.url_of(wayward.account()) ...
        wayward.stop()

    ``wayward.root`` shows what is truly there.
    """

    program = sys.executable

    def __init__(self, directory: Path, *, version: str = "Wayward") -> None:
        super().__init__(directory)
        self._version = version
        self._orders: dict[str, Any] = {}
        """What holds, to be said again after a new start."""
        self._users = count()

    def misbehave(self, *ways: Misbehaviour) -> None:
        """Have the server do so from now on, and nothing of what it was told before; of two for one thing the first."""
        self._tell(misbehave=[way.as_dict() for way in ways])

    def greet(self, text: str) -> None:
        """Have the server write ``text`` before the protocol begins, as a shell's start-up file does."""
        self._tell(greeting=text)

    def account(self) -> str:
        """Return a new user's name."""
        return f"user{next(self._users)}"

    def announce(self, user: str, *, without: Sequence[str]) -> None:
        """Have the server not announce these extensions to a user who logs in from now on."""
        self._tell(lacking={**self._orders.get("lacking", {}), user: list(without)})

    def url_of(self, user: str) -> str:
        """Return the URL of ``root`` for a user; any name is let in."""
        return self.url.replace(f"//{self.user}@", f"//{user}@")

    def asked(self) -> list[dict[str, Any]]:
        """Return what was asked for since the last call: "request", its "path" below the root, and more by its kind."""
        told: list[dict[str, Any]] = self._say({"asked": True})
        return told

    def met(self) -> list[int]:
        """Return how often each misbehaviour came about, in the order in which they were told."""
        counts: list[int] = self._say({"met": True})
        return counts

    def open_files(self) -> list[str]:
        """Return the paths below the root of what clients have open, each as often as it is."""
        found: list[str] = self._say({"open": True})
        return found

    def cut(self) -> None:
        """Break every connection, and go on listening."""
        self._say({"cut": True})

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve, within, as nobody."""
        self._say({"user": NOBODY} if os.geteuid() == 0 else {})
        try:
            yield
        finally:
            self._say({"user": os.geteuid()})

    def command(self) -> Sequence[str]:
        return ["-m", "tests.servers.wayward.process", str(self.directory), str(self.port), self._version]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(_CHECKOUT), "PYTHONWARNINGS": "ignore"}

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=environment, bufsize=0)

    def start(self) -> None:
        super().start()
        self._say(self._orders)

    def stop(self) -> None:
        process = self._process
        super().stop()
        for pipe in (process.stdin, process.stdout) if process is not None else ():
            if pipe is not None:
                pipe.close()

    def _tell(self, **order: Any) -> None:
        self._orders |= order
        self._say(order)

    def _say(self, order: Mapping[str, Any]) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return json.loads(self._process.stdout.readline() or "null")
