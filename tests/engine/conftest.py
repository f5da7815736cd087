"""What the tests of the engine share."""

from collections.abc import AsyncIterator

import pytest_twisted
from twisted.internet import reactor

from tests.servers.web import Web


@pytest_twisted.async_yield_fixture
async def web() -> AsyncIterator[Web]:
    """A web server that serves what a test tells it to."""
    web = Web(reactor)
    await web.start()
    yield web
    await web.stop()
