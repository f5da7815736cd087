"""What the tests of the engine share."""

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.engine import dispatcher, maintenance
from tests.servers.web import Web


@pytest_twisted.async_yield_fixture
async def web() -> AsyncIterator[Web]:
    """A web server that serves what a test tells it to."""
    web = Web(reactor)
    await web.start()
    yield web
    await web.stop()


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have engines look often for what is due, and for what others left: hundreds of tests wait for retries."""
    monkeypatch.setattr(dispatcher, "POLL", 0.2)
    monkeypatch.setattr(maintenance, "POLL", 0.5)
