"""What a service manager is told of this process: ready, how it is, that it turns, that it stops.

systemd's protocol (sd_notify): datagrams of ``NAME=value`` lines to the socket that ``$NOTIFY_SOCKET`` names. Without
that variable there is nobody to tell.
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
"""Seconds between two looks whether the service is ready."""
PATIENCE = 30
"""Seconds for which the manager is asked, at every look, to wait on."""

ReadinessCheck = Callable[[], Awaitable[tuple[int, str, bytes]]]
"""What ``GET /health/ready`` answers: 200, or another status and why."""


class ServiceManager:
    """Whoever reads the socket that the environment names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if meant else ""
        self.watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
        """Seconds within which the manager wants a sign of life; 0: it wants none."""

    @property
    def there(self) -> bool:
        return bool(self._address)

    def tell(self, **facts: str | int) -> None:
        """Send one datagram; a manager that does not read is passed over, and logged."""
        message = "\n".join(f"{name}={value}" for name, value in facts.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
                end.sendto(message.encode(), address)
        except OSError as error:
            log.warn("the service manager is not told {facts}: {reason}", facts=message, reason=error.strerror)


class Supervised(Service):
    """Keeps the manager informed: ready once ``look`` says so, alive for as long as the event loop and all others turn.

    It belongs behind all other services: it starts when they have, and stops before they do.
    """

    def __init__(self, manager: ServiceManager, look: ReadinessCheck, clock: IReactorTime, loops: Loops) -> None:
        self._manager = manager
        self._look = look
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
            # A loop that fails is run again; one that hangs, and hangs again, needs the process to begin anew.
            if not self._loops.stuck:
                self._manager.tell(WATCHDOG=1)
            self._living.turned()
            await deferLater(self._clock, self._manager.watchdog / 2)

    async def _tell(self) -> None:
        ready, told = False, ""
        while True:
            status, _, body = await self._look()
            words = "ready" if status == 200 else body.decode().strip().replace("\n", "; ")
            if not ready and status == 200:
                ready = True
                self._manager.tell(READY=1, STATUS=words)
            elif not ready:
                # A recovery takes as long as it takes, and a database that is away may come back.
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
