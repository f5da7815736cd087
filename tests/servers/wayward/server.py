"""An SFTP server that misbehaves as configured, over a real directory, for faults that no real server produces."""

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
    """A server in a separate process that serves ``root`` as OpenSSH would, except for its misbehaviours.

    ``version`` is its software version in the SSH banner: with "OpenSSH_9.2p1" clients treat it as that.

        wayward = Wayward(open_directory)
        wayward.start()
        wayward.misbehave(Misbehaviour(WRITE, Way.KEEPS_BELOW, amount=4096, below="cell-1"))
        ... wayward.url, wayward.url_of(wayward.account()) ...
        wayward.stop()

    ``wayward.root`` has the real files.
    """

    program = sys.executable

    def __init__(self, directory: Path, *, version: str = "Wayward") -> None:
        super().__init__(directory)
        self._version = version
        self._configuration: dict[str, Any] = {}
        """The current configuration, which is sent again after a restart."""
        self._users = count()

    def misbehave(self, *ways: Misbehaviour) -> None:
        """Replace the server's misbehaviours; the first that matches a request applies."""
        self._configure(misbehave=[way.as_dict() for way in ways])

    def greet(self, text: str) -> None:
        """Make the server write ``text`` before the protocol begins, as a shell's start-up file may."""
        self._configure(greeting=text)

    def account(self) -> str:
        """Return a new user's name."""
        return f"user{next(self._users)}"

    def announce(self, user: str, *, without: Sequence[str]) -> None:
        """Stop announcing these extensions to a user, from the next login on."""
        self._configure(lacking={**self._configuration.get("lacking", {}), user: list(without)})

    def url_of(self, user: str) -> str:
        """Return the URL of ``root`` for a user; any name is accepted."""
        return self.url.replace(f"//{self.user}@", f"//{user}@")

    def asked(self) -> list[dict[str, Any]]:
        """Return the requests since the last call: "request", its "path" below the root, and more by its kind."""
        requests: list[dict[str, Any]] = self._send({"asked": True})
        return requests

    def met(self) -> list[int]:
        """Return how often each misbehaviour was applied, in their order."""
        counts: list[int] = self._send({"met": True})
        return counts

    def open_files(self) -> list[str]:
        """Return the paths below the root of all open handles."""
        found: list[str] = self._send({"open": True})
        return found

    def cut(self) -> None:
        """Break every connection, and keep listening."""
        self._send({"cut": True})

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Serve as nobody within the block."""
        self._send({"user": NOBODY} if os.geteuid() == 0 else {})
        try:
            yield
        finally:
            self._send({"user": os.geteuid()})

    def command(self) -> Sequence[str]:
        return ["-m", "tests.servers.wayward.process", str(self.directory), str(self.port), self._version]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(_CHECKOUT), "PYTHONWARNINGS": "ignore"}

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=environment, bufsize=0)

    def start(self) -> None:
        super().start()
        self._send(self._configuration)

    def stop(self) -> None:
        process = self._process
        super().stop()
        for pipe in (process.stdin, process.stdout) if process is not None else ():
            if pipe is not None:
                pipe.close()

    def _configure(self, **settings: Any) -> None:
        self._configuration |= settings
        self._send(settings)

    def _send(self, command: Mapping[str, Any]) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(self._process.stdout.readline() or "null")
