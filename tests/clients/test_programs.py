"""The programs of examples/clients whose libraries are small, run, and all of them as docs/api.md shows them."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamover.bounds.calls import LONGEST_WAIT
from tests.clients.programs import CURL, DIRECTORY, PERL, PHP, PROGRAMS, PYTHON, ROOT, RUBY, Checks, Program, World
from tests.clients.programs import world as serving


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    directory.chmod(0o755)
    with serving(directory) as world:
        yield world
    shutil.rmtree(directory)


RUN = [PYTHON, PERL, PHP, RUBY, CURL]


@pytest.mark.parametrize("program", RUN, ids=lambda program: program.language)
class TestPrograms(Checks):
    """Those that ``make test`` runs; ``make clients`` runs the others."""


def test_every_program_is_run() -> None:
    """Each file of examples/clients is one of the programs."""
    assert {path.name for path in DIRECTORY.iterdir()} == {program.name for program in PROGRAMS}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.language)
def test_the_page_shows_the_program(program: Program) -> None:
    """docs/api.md has the text of the file, in a section of the language's name, and says what to install."""
    page = (ROOT / "docs/api.md").read_text()
    found = re.search(rf"^### {program.language}$(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, program.language
    assert f"```\n{(DIRECTORY / program.name).read_text()}```\n" in re.sub("```[a-z]+\n", "```\n", found[1])
    assert f"examples/clients/{program.name}" in found[1]
    for package in program.packages:
        assert f"`{package}`" in found[1], package


def test_the_packages_are_installed_by_make() -> None:
    """``make system`` installs what the programs of the suite need, ``make clients-system`` what the others do."""
    makefile = (ROOT / "Makefile").read_text()
    installed = re.split(r"^(?:bench-|clients-)?system: ?.*$", makefile, flags=re.MULTILINE)
    suite, others = installed[1], installed[3]
    for program in PROGRAMS:
        words = (suite if program in RUN else others).split()
        assert {*program.packages} - {"python3"} <= set(words), program.language
    (pinned,) = re.findall(r"\bxmlrpc@[\d.]+", makefile)
    assert f"`npm install {pinned}`" in (ROOT / "docs/api.md").read_text()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.language)
def test_programs_wait_longer_for_an_answer_than_for_a_job(program: Program) -> None:
    """Each has jobs.wait wait for as long as it may, and its HTTP client for longer."""
    text = (DIRECTORY / program.name).read_text()
    assert re.search(rf"\bwait ?= ?{LONGEST_WAIT:.0f}\b", text, re.IGNORECASE)
    assert re.search(r"\bwait \+ 30\b", text, re.IGNORECASE)
