"""txpostgres's connection, made to end in peace: what it meets is told once, and raises nothing into the reactor."""

from collections.abc import Callable
from typing import Any

import psycopg2
from txpostgres import txpostgres


class DriverConnection(txpostgres.Connection):  # type: ignore[misc]  # txpostgres has no types
    """Tells of its end once. ``on_notify`` is called with the channel and the payload of each notification.

    Without that it listens to nothing, and what it is told while it is idle can only be that its session was ended. Its
    socket may be closed a moment later: it must not be entrusted with anything in between.
    """

    def __init__(self, reactor: Any, on_notify: Callable[[str, str], None] | None, on_lost: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._on_notify = on_notify
        self._on_lost: Callable[[], None] | None = on_lost

    def doRead(self) -> None:  # noqa: N802
        try:
            if self._pollingD is not None:
                # Still connecting: libpq may change its socket, so nothing of the old one may stay in the reactor.
                txpostgres._PollingMixin.doRead(self)
            elif self._on_notify is None:
                self.close()
            else:
                super().doRead()
        except psycopg2.Error:
            self.close()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        super().connectionLost(reason)
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()

    def checkForNotifies(self) -> None:  # noqa: N802
        # At once, where txpostgres would leave a task in the one global cooperator.
        while self._connection.notifies:
            notify = self._connection.notifies.pop(0)
            if self._on_notify is not None:
                self._on_notify(notify.channel, notify.payload)

    def close(self) -> None:
        if self._connection is None:
            return
        for cursor in set(self._cursors):
            self.reactor.removeReader(cursor)
            self.reactor.removeWriter(cursor)
        super().close()
