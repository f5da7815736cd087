"""The programs of examples/clients that need more than the suite installs: ``make clients`` runs them."""

from collections.abc import Iterator

import pytest

from tests.clients.programs import JAVA, NODE, Checks, World
from tests.clients.programs import world as serving


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving(tmp_path_factory.mktemp("clients")) as world:
        yield world


@pytest.mark.parametrize("program", [NODE, JAVA], ids=lambda program: program.language)
class TestPrograms(Checks):
    """Those whose packages are large."""
