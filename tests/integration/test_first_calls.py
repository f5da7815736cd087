"""Calls that come while the database is started, or has just gone away."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, MultiCall, ServerProxy

import pytest

from tests.servers import postgres
from tests.servers.service import Service

WAITED = 4.5
"""Seconds: hardly less than a call waits for the database."""


def when_it_listens(service: Service, call: Any) -> Any:
    """Return what the first call that reaches a listener is answered."""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return call()
        assert time.monotonic() < deadline, service.log.read_text()
        time.sleep(0.01)


@pytest.fixture
def service(open_directory: Path) -> Iterator[Service]:
    service = Service(open_directory, "")
    yield service
    service.stop()


def test_the_first_call_waits(service: Service) -> None:
    """A call while the embedded database is being made waits for it; ``service.status`` answers meanwhile, at once."""
    service.launch()
    with ServerProxy(service.url) as proxy:
        began = time.monotonic()
        told: Any = when_it_listens(service, proxy.service.status)
        assert not told["ready"]
        began = time.monotonic()
        assert proxy.jobs.list() == []
        assert time.monotonic() - began > 0.2, "it was made while nobody waited"
        answer: Any = proxy.service.status()
        assert answer["ready"]


@pytest.fixture
def given(open_directory: Path) -> Iterator[tuple[Service, postgres.Postgres]]:
    """A service with a PostgreSQL that a test may stop."""
    with postgres.running() as server:
        service = Service(open_directory, f'[database]\nurl = "{server.database_url("postgres")}"\n')
        service.start()
        yield service, server
        service.stop()


def test_a_call_waits_for_a_database_that_went_away(given: tuple[Service, postgres.Postgres]) -> None:
    """Calls, a multicall among them, wait five seconds at most for a database that went away, and are then refused."""
    service, server = given
    assert service.proxy.jobs.list() == []
    server.stop()
    began = time.monotonic()
    told = service.proxy.service.status()
    assert not told["ready"]
    assert time.monotonic() - began < WAITED, "it waited"
    restart = threading.Timer(0.5, server.start)
    restart.start()
    assert service.proxy.jobs.list() == []
    restart.join()

    server.stop()
    began = time.monotonic()
    many = MultiCall(service.proxy)
    many.jobs.list()
    many.jobs.list()
    with pytest.raises(Fault, match="the database is away"):
        _ = many()[0]
    assert WAITED < time.monotonic() - began < 2 * WAITED, "they waited one after the other"
    server.start()
    assert service.proxy.jobs.list() == []
