"""txpostgres's connection with its faults corrected: it reports its end once, and raises nothing into the reactor."""

from collections.abc import Callable
from typing import Any

import psycopg2
from txpostgres import txpostgres


class DriverConnection(txpostgres.Connection):  # type: ignore[misc]  # txpostgres has no types
    """Calls ``on_lost`` once when it ends, and ``on_notify`` with the channel and the payload of each notification.

    Without ``on_notify`` it listens to nothing: data that arrives while it is idle can only mean that the server has
    ended the session, so it closes at once, before another statement is sent over it.
    """

    def __init__(self, reactor: Any, on_notify: Callable[[str, str], None] | None, on_lost: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._on_notify = on_notify
        self._on_lost: Callable[[], None] | None = on_lost

    def doRead(self) -> None:  # noqa: N802
        try:
            if self._pollingD is not None:
                # Still connecting: libpq may replace its socket, and the reactor must not keep watching the old one.
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
        # Called directly; txpostgres would leave a task in the global cooperator.
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
