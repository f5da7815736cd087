"""The start: what twistd and twist are given, and what it comes to once the process is the one that will run.

twistd makes the service first and forks then. Process ids, descriptors, threads and locks that were taken before would
be those of a process that is gone, so nothing is made before ``privilegedStartService``. What can be known before the
reactor runs is tried there: what is wrong is one sentence on the terminal, and exit status 1.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import IProcess, IService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from datamover.app.terminal import Terminal
from datamover.errors import DataMoverError
from datamover.security.accounts import Account

log = Logger()

UMASK = 0o022
"""Leaves what is asked for as it is asked for; twistd's in the background (077) would close what others must read."""
PID_FILE = 0o644
"""Others may know the process; only we say which it is."""

Make = Callable[[Account], IService]
"""Makes the services for a process that will be this account; raises ConfigError."""


class CannotStart(SystemExit, Exception):
    """What is wrong has been said: the process ends with status 1."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.code = 1


class Starting(Service):
    """Makes the services when the process starts, and is all of them from then on."""

    def __init__(
        self, make: Make, terminal: Terminal, runner: Mapping[str, Any], observer: ILogObserver | None = None
    ) -> None:
        """``runner`` holds the options of twistd, none for other runners; ``observer`` is what twistd is to log to."""
        self._make = make
        self._terminal = terminal
        self._runner = runner
        self._observer = observer
        self._services: IService | None = None

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        if self._observer is not None and isinstance(parent, Componentized):
            # The application: twistd looks there for what it is to log to.
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:  # noqa: N802
        """Make the services and try what can be tried; raises CannotStart, once that has been said."""
        super().privilegedStartService()
        try:
            self._begin()
        except CannotStart as error:
            log.critical("datamover cannot run: {sentence}", sentence=str(error))
            raise

    def startService(self) -> None:  # noqa: N802
        super().startService()
        if self._services is None:  # twist knows of no privileges.
            self._begin()
        assert self._services is not None, "it was begun"
        self._services.startService()
        self._terminal.leave()

    def stopService(self) -> "Deferred[Any]":  # noqa: N802
        super().stopService()
        assert self._services is not None, "it was started"
        return maybeDeferred(self._services.stopService)

    def _begin(self) -> None:
        os.umask(UMASK)
        account = Account.coming(self._runner, IProcess(self.parent, None))
        self._open_pid_file()
        try:
            services = self._make(account)
            services.privilegedStartService()
        except DataMoverError as error:
            self._terminal.say(f"datamover: {error.message}")
            raise CannotStart(error.message) from None
        self._services = services

    def _open_pid_file(self) -> None:
        """Have twistd's file say to others which process this is, and nobody else write it."""
        file = self._runner.get("pidfile")
        if file and Path(file).exists():
            Path(file).chmod(PID_FILE)
