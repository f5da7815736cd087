"""The man pages, held against what they are made of."""

import re
from pathlib import Path
from runpy import run_path

import pytest

from datamover.admin import parser

DOCS = Path(__file__).parents[2] / "docs"
PAGES = run_path(str(DOCS / "man.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_as_it_is_made(name: str) -> None:
    """A man page is what `make man` writes from the command's help and the sample."""
    assert (DOCS / "man" / name).read_text() == PAGES[name]


def test_every_command() -> None:
    """Each command of datamover-admin and each of its options has a paragraph."""
    page = PAGES["datamover-admin.1"].replace("\\-", "-")
    found = re.findall(r"^    ([a-z-]+)\b", parser().format_help(), re.MULTILINE)
    assert {"check-config", "sample-config", "backup"} <= set(found)
    for command in found:
        assert re.search(rf"^\.B {command}\b", page, re.MULTILINE), command
    assert ".B --connect" in page
