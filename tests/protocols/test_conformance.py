"""The conformance suite over local disks; every other protocol has a file of its own for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.local import LOCAL
from tests.protocols.conformance import settings
from tests.protocols.part_files import DiskPremises, PartFileConformance, as_nobody


class TestLocal(PartFileConformance):
    @pytest.fixture
    def premises(self, open_directory: Path) -> Iterator[DiskPremises]:
        """A directory of this machine."""
        root = open_directory / "root"
        root.mkdir()
        pool = LOCAL.open(settings(root.as_uri()), LOCAL.options(), reactor)
        yield DiskPremises(pool, root, as_nobody)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))
