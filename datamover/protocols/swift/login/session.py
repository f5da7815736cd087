"""The token of one destination, shared by all its requests; one login renews it for all."""

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.errors import AuthenticationFailed, ConnectionLost
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.swift.login.access import Access, SwiftLogin, account_of
from datamover.web.url import WebUrl

MARGIN = 60.0
"""Seconds before its end from which on a token is not used any more, since a request may wait before it is sent."""


class Session:
    """Logs in when a token is needed."""

    def __init__(self, login: SwiftLogin, url: WebUrl, storage: WebUrl | None, seconds: Callable[[], float]) -> None:
        """``url`` is the login's, ``storage`` the configured ``storage_url``; ``seconds`` is a monotonic clock."""
        self.host = url.host
        self._login = login
        self._url = url
        self._storage = storage
        self._seconds = seconds
        self._access: Access | None = None
        self._ends: float | None = None
        self._running: Deferred[None] | None = None
        self._waiting: Waiters[Access] = Waiters()

    async def get(self, refused: Access | None = None) -> Access:
        """Return a token that is valid as far as is known, and is not the one that was ``refused``.

        Raises AuthenticationFailed, Refused (the login failed for another reason than the password) and what
        ``PolicyAgent.send`` raises. Cancelling only stops the waiting; the login goes on for others.
        """
        access = self._access
        if access is not None and access is not refused and (self._ends is None or self._seconds() < self._ends):
            return access
        waiting = self._waiting.wait()
        if self._running is None:
            running = Deferred.fromCoroutine(self._renew())
            if not running.called:
                self._running = running
        return await waiting

    def close(self) -> None:
        """Cancel a login in progress."""
        if self._running is not None:
            self._running.cancel()

    async def _renew(self) -> None:
        result: Access | Failure
        try:
            result = await self._granted()
        except CancelledError:
            result = Failure(ConnectionLost("the login was given up: datamover is stopping"))  # type: ignore[no-untyped-call]
        except Exception:  # The waiting calls raise it.
            result = Failure()  # type: ignore[no-untyped-call]
        self._running = None
        self._access = None if isinstance(result, Failure) else result
        self._waiting.wake(result)

    async def _granted(self) -> Access:
        try:
            granted = await self._login.log_in()
        except Refused as refusal:
            if refusal.status in (401, 403):
                raise AuthenticationFailed(f"the login is refused: check {self._login.keys}") from None
            if refusal.status < 500 and refusal.status not in (408, 429):
                raise AuthenticationFailed(
                    # Keystone answers 404 to an application credential that it does not know.
                    f"there is no login at {self._url.told} ({refusal.status}); check auth_url, {self._login.keys}"
                ) from None
            raise
        account = account_of(granted.storage_url, self._url, self._storage)
        self._ends = None if granted.lasts is None else self._seconds() + max(MARGIN, granted.lasts) - MARGIN
        return Access(granted.token, account)
