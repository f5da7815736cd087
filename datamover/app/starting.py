"""The service that twistd and twist get: it makes all other services when the process starts.

twistd makes the service first and forks afterwards. Process ids, descriptors, threads and locks from before the fork
would belong to a process that has ended, so nothing is made before ``privilegedStartService``. The checks that are
possible before the reactor runs take place there: an error is one sentence on the terminal and exit status 1.
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
"""Keeps the modes that are asked for. twistd's in the background (077) would close files that others must read."""
PID_FILE = 0o644
"""Everybody may read twistd's pid file, and only its owner may write it."""

Make = Callable[[Account], IService]
"""Makes the services of a process that will run as this account; raises ConfigError."""


class CannotStart(SystemExit, Exception):
    """Ends the process with status 1, after the sentence was written to the terminal."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.code = 1


class Starting(Service):
    """Makes the services when the process starts, then starts and stops them."""

    def __init__(
        self, make: Make, terminal: Terminal, runner: Mapping[str, Any], observer: ILogObserver | None = None
    ) -> None:
        """``runner`` holds twistd's options and is empty for other runners; ``observer`` is where twistd shall log."""
        self._make = make
        self._terminal = terminal
        self._runner = runner
        self._observer = observer
        self._services: IService | None = None

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        if self._observer is not None and isinstance(parent, Componentized):
            # The parent is the application: twistd takes its log observer from there.
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:  # noqa: N802
        """Make the services and run their checks; raises CannotStart after it has reported the error."""
        super().privilegedStartService()
        try:
            self._begin()
        except CannotStart as error:
            log.critical("datamover cannot run: {sentence}", sentence=str(error))
            raise

    def startService(self) -> None:  # noqa: N802
        super().startService()
        if self._services is None:  # twist does not call privilegedStartService.
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
        account = Account.after_start(self._runner, IProcess(self.parent, None))
        self._open_pid_file()
        try:
            services = self._make(account)
            services.privilegedStartService()
        except DataMoverError as error:
            self._terminal.say(f"datamover: {error.message}")
            raise CannotStart(error.message) from None
        self._services = services

    def _open_pid_file(self) -> None:
        """Set the mode of twistd's pid file, if there is one."""
        file = self._runner.get("pidfile")
        if file and Path(file).exists():
            Path(file).chmod(PID_FILE)
