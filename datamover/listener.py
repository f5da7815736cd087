"""A listener that must be had: a process that cannot listen where it was told to has nothing to offer its clients."""

from collections.abc import Callable
from errno import EADDRINUSE
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IStreamServerEndpoint)
class Listener:
    """The endpoint that a string describes; if it cannot be listened on, ``give_up`` is told why in a sentence."""

    def __init__(self, reactor: Any, description: str, give_up: Callable[[str], None]) -> None:
        self._endpoint = serverFromString(reactor, description)
        self._description = description
        self._give_up = give_up

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":  # noqa: N803 - the interface's
        """Listen; completes with None where that cannot be."""
        listening: Any = self._endpoint.listen(protocolFactory)
        listening.addErrback(self._failed)
        return listening  # type: ignore[no-any-return]

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        cause = error.socketError if isinstance(error, CannotListenError) else error
        reason = getattr(cause, "strerror", None) or str(cause)
        hint = "; does another datamover run already?" if getattr(cause, "errno", None) == EADDRINUSE else ""
        self._give_up(f"{self._description!r} cannot be listened on: {reason}{hint}")
