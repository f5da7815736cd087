"""Notifications to a service manager: readiness, status, watchdog signals and stopping.

The protocol is systemd's (sd_notify(3)): datagrams of ``NAME=value`` lines to the socket that ``$NOTIFY_SOCKET`` names.
Without that variable nothing is sent.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.concurrency.loops import Loops

log = Logger()

LOOK = 1.0
"""Seconds between two readiness checks."""
PATIENCE = 30
"""Seconds by which each check that is not ready extends the manager's timeout."""

ReadinessCheck = Callable[[], Awaitable[tuple[int, str, bytes]]]
"""Returns the answer to ``GET /health/ready``: HTTP status, content type and body; 200 means ready."""


class ServiceManager:
    """The receiver of notifications: the socket that the environment names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if meant else ""
        self.watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
        """Seconds within which the manager expects a watchdog signal; 0: it expects none."""

    @property
    def there(self) -> bool:
        return bool(self._address)

    def tell(self, **facts: str | int) -> None:
        """Send one datagram; if that fails, log a warning."""
        message = "\n".join(f"{name}={value}" for name, value in facts.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
                end.sendto(message.encode(), address)
        except OSError as error:
            log.warn("could not notify the service manager of {facts}: {reason}", facts=message, reason=error.strerror)


class Supervised(Service):
    """Notifies the manager: READY once ``check`` says so, WATCHDOG as long as no loop hangs, STATUS when it changes.

    It must be the last service: it starts after all others and stops before them.
    """

    def __init__(self, manager: ServiceManager, check: ReadinessCheck, clock: IReactorTime, loops: Loops) -> None:
        self._manager = manager
        self._check = check
        self._clock = clock
        self._loops = loops
        self._telling, self._living = loops.loop("service manager"), loops.loop("watchdog")

    def startService(self) -> None:  # noqa: N802
        super().startService()
        if self._manager.watchdog:
            self._living.start(self._live)
        self._telling.start(self._tell)

    async def _live(self) -> None:
        while True:
            # A loop that fails is run again; only one that hangs again and again needs a new process.
            if not self._loops.stuck:
                self._manager.tell(WATCHDOG=1)
            self._living.turned()
            await deferLater(self._clock, self._manager.watchdog / 2)

    async def _tell(self) -> None:
        ready, told = False, ""
        while True:
            status, _, body = await self._check()
            words = "ready" if status == 200 else body.decode().strip().replace("\n", "; ")
            if not ready and status == 200:
                ready = True
                self._manager.tell(READY=1, STATUS=words)
            elif not ready:
                # Recovery of the database has no time limit, and a database that is away may come back.
                self._manager.tell(STATUS=words, EXTEND_TIMEOUT_USEC=PATIENCE * 10**6)
            elif words != told:
                self._manager.tell(STATUS=words)
            told = words
            self._telling.turned()
            await deferLater(self._clock, LOOK)

    def stopService(self) -> None:  # noqa: N802
        super().stopService()
        self._manager.tell(STOPPING=1, STATUS="stopping")
        self._living.stop()
        self._telling.stop()
