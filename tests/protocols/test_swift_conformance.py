"""The conformance suite over Swift, with files that become plain objects, and with files that become large ones."""

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.protocols.conformance import Premises
from tests.protocols.object_store import ObjectStoreConformance
from tests.protocols.swift import SwiftPremises
from tests.servers.swift import SwiftServer


class TestPlain(ObjectStoreConformance):
    @pytest.fixture
    def premises(self, swift: SwiftServer) -> Iterator[Premises]:
        swift.clear()
        premises = SwiftPremises(swift)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))


class TestLarge(ObjectStoreConformance):
    @pytest.fixture
    def premises(self, swift: SwiftServer) -> Iterator[Premises]:
        swift.clear()
        premises = SwiftPremises(swift, part_size="1MiB")
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
