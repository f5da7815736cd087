"""Connections to web servers: which of them count as busy."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from datamover.protocols.http.client.pool import HttpPool
from tests.unit.outcomes import failure


class Endpoint:
    """Connects when it is told."""

    def __init__(self) -> None:
        self.connecting: Deferred[object] = Deferred()

    def connect(self, _: object) -> Deferred[object]:
        return self.connecting


def test_what_is_being_made_is_busy() -> None:
    """A connection that is asked for counts until it is given up; others' do not."""
    pool = HttpPool(Clock(), connect_timeout=10)
    asked = Deferred.fromCoroutine(pool.connection("here", Endpoint))  # type: ignore[arg-type]
    assert (pool.busy("here"), pool.busy("there")) == (1, 0)
    asked.cancel()
    assert isinstance(failure(asked), CancelledError)
    assert pool.busy("here") == 0
