"""The conformance suite over every protocol that holds a place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.base import PlaceSettings
from datamover.protocols.local import LOCAL
from tests.protocols.conformance import DIRECTORY_MODE, FILE_MODE, Conformance, Premises

NOBODY = 65534


def settings(url: str) -> PlaceSettings:
    return PlaceSettings("place", url, FILE_MODE, DIRECTORY_MODE, connect_timeout=10.0, idle_timeout=10.0)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as a user who owns nothing, where the tests are run by root, whom no permission binds."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class TestLocal(Conformance):
    @pytest.fixture
    def premises(self, open_directory: Path) -> Iterator[Premises]:
        """A directory of this machine."""
        root = open_directory / "root"
        root.mkdir()
        pool = LOCAL.open(settings(root.as_uri()), LOCAL.options(), reactor)
        yield Premises(pool, root, as_nobody)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))
