"""The datasets of this version, as their packages declare them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamover.config.schema import Config
from datamover.datasets import DATASETS
from datamover.datasets.configured import CONFIG, DECLARED
from datamover.requests.datasets import KINDS, SCHEMES
from tests.unit.test_packages import CHECKOUT, MODULES, imported

NAMES = {each.name for each in DECLARED}
ORIGINAL = {"datamover.api.methods.bccvl", "datamover.api.methods.moves"}
"""The methods of the original ask for ALA's dataset by name."""


def test_names() -> None:
    """Each has a name of its own, which no section has; the configuration and requests take their names from them."""
    assert len(NAMES) == len(DECLARED) == len(DATASETS)
    assert not NAMES & set(Config.model_fields)
    assert set(CONFIG.model_fields) == set(Config.model_fields) | NAMES
    assert set(SCHEMES) == set(KINDS.values()) == NAMES


def test_live_keys() -> None:
    """What a section declares to be live is a key of it."""
    for each in DECLARED:
        assert {*(each.section.live or ())} <= set(each.section.model_fields), each.name


def test_nobody_knows_one_by_name() -> None:
    """Outside its package no module imports a dataset or holds its name, but for the methods of the original."""
    found = {
        module
        for module, file in MODULES.items()
        if not module.startswith(DATASETS)
        if NAMES & set(strings(file)) or any(each.startswith(DATASETS) for each in imported(file.read_text()))
    }
    assert found == ORIGINAL


@pytest.mark.parametrize("module", ["ala.clean", "gbif.clean", "gbif.cite"])
def test_cleaners_are_small(module: str) -> None:
    """A process that cleans imports nothing of the service, whichever datasets there are."""
    program = f"import sys, datamover.datasets.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"twisted", "pydantic", "datamover.datasets.configured"} & set(done.stdout.split())


def test_the_guide_shows_what_is_tested() -> None:
    """Every piece of code in docs/datasets.md is code of the dataset that the tests add."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (CHECKOUT / "docs/datasets.md").read_text(), re.MULTILINE | re.DOTALL
    )
    code = "".join(file.read_text() for file in (CHECKOUT / "tests/datasets/tides").glob("*.py"))
    assert blocks
    assert [block for block in blocks if block not in code] == []


def strings(file: Path) -> Iterator[str]:
    """Yield the text constants of a module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
