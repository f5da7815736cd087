"""txpostgres's connection with its faults corrected: it reports its end once, and raises nothing into the reactor.

libpq closes and replaces its socket by itself while it is asked to go on. The reactor must not be watching the old one
then: what it keeps under its number would hinder the next connection of whatever kind that gets the number. Nor does an
event prove anything: among those that the reactor has fetched may be one of a socket that had the number before.
"""

import select
from collections.abc import Callable
from typing import Any

import psycopg2
from txpostgres import txpostgres


class _Unwatched:
    """Mixed into what asks libpq to go on: the reactor does not watch it meanwhile."""

    def fileno(self: Any) -> int:
        connection = self.pollable()
        return -1 if connection.closed else int(connection.fileno())

    def continuePolling(self: Any, swallowErrors: bool = False) -> None:  # noqa: N802, N803
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        super().continuePolling(swallowErrors)  # type: ignore[misc]


class _Cursor(_Unwatched, txpostgres.Cursor):  # type: ignore[misc]  # txpostgres has no types
    """A cursor of a ``DriverConnection``."""

    # The reactor is asked once to stop watching, which continuePolling does.
    def doRead(self) -> None:  # noqa: N802
        if self.pollable().closed:
            self.reactor.removeReader(self)
        else:
            self.continuePolling()


class DriverConnection(_Unwatched, txpostgres.Connection):  # type: ignore[misc]  # txpostgres has no types
    """Calls ``on_lost`` once when it ends, and ``on_notify`` with the channel and the payload of each notification.

    Without ``on_notify`` it listens to nothing: data that arrives while it is idle can only mean that the server has
    ended the session, so it closes at once, before another statement is sent over it.
    """

    cursorFactory = _Cursor  # noqa: N815

    def __init__(self, reactor: Any, on_notify: Callable[[str, str], None] | None, on_lost: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._on_notify = on_notify
        self._on_lost: Callable[[], None] | None = on_lost

    def doRead(self) -> None:  # noqa: N802
        if not is_ready(self.fileno(), select.POLLIN):
            return
        try:
            if self._pollingD is not None:
                txpostgres._PollingMixin.doRead(self)  # Still connecting.
            elif self._on_notify is None:
                self.close()
            else:
                super().doRead()
        except psycopg2.Error:
            self.close()

    def doWrite(self) -> None:  # noqa: N802
        if is_ready(self.fileno(), select.POLLOUT):
            super().doWrite()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        if self._pollingD is None and not self._connection.closed and not is_ready(self.fileno(), select.POLLIN):
            self.reactor.addReader(self)
            return
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


def is_ready(descriptor: int, event: int) -> bool:
    """Tell whether a socket is ready for an event of poll(2), or broken; of one that libpq closed the number is -1."""
    if descriptor < 0:
        return True
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(0))
