"""The conformance suite over Swift, with files that become plain objects, and with files that become large ones."""

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.protocols.conformance import Conformance, Outside, Premises
from tests.protocols.swift import ContainerOutside, pool_of
from tests.servers.swift import SwiftServer


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """A Swift for all tests of this module."""
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


class SwiftPremises(Premises):
    """A prefix of a server's container, empty at first."""

    unit = 2 * 2**20

    def __init__(self, server: SwiftServer, **options: Any) -> None:
        self.pool = pool_of(server, **options)
        self._outside = ContainerOutside(server)

    @property
    def outside(self) -> Outside:
        return self._outside


class TestPlain(Conformance):
    @pytest.fixture
    def premises(self, swift: SwiftServer) -> Iterator[Premises]:
        swift.clear()
        premises = SwiftPremises(swift)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


class TestLarge(Conformance):
    @pytest.fixture
    def premises(self, swift: SwiftServer) -> Iterator[Premises]:
        swift.clear()
        premises = SwiftPremises(swift, part_size="1MiB")
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
