"""A listener whose failure to bind ends the process."""

from errno import EADDRINUSE
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from datamover.config.endpoints import is_unix_listener
from datamover.errors import StartError
from datamover.security.accounts import Account


class Listener(Service):
    """Serves a factory on the tcp or unix endpoint that a string describes."""

    def __init__(self, reactor: Any, description: str, factory: IProtocolFactory, account: Account) -> None:
        """``account`` is what the process will run as; it owns a Unix socket, so that it can remove it."""
        self._endpoint = serverFromString(reactor, description)
        self._description = description
        self._factory = factory
        self._account = account if is_unix_listener(description) else Account()
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:  # noqa: N802
        """Listen; raises StartError."""
        super().privilegedStartService()
        failures: list[Failure] = []
        with self._account.assumed():
            # TCP and Unix endpoints listen before they return.
            self._endpoint.listen(self._factory).addCallbacks(self._listens, failures.append)
        if failures:
            raise self._refusal(failures[0])

    def stopService(self) -> "Deferred[None] | None":  # noqa: N802
        super().stopService()
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    def _listens(self, port: IListeningPort) -> None:
        self._port = port

    def _refusal(self, failure: Failure) -> StartError:
        error = failure.value
        cause = error.socketError if isinstance(error, CannotListenError) else error
        if isinstance(cause, StartError):
            return cause
        reason = getattr(cause, "strerror", None) or str(cause)
        taken = isinstance(cause, str) or getattr(cause, "errno", None) == EADDRINUSE  # a Unix socket's lock is a str
        hint = "; does another datamover run already?" if taken else ""
        return StartError(f"{self._description!r} cannot be listened on: {reason}{hint}")
