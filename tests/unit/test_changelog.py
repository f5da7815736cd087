"""The change log is made of the fragments in changelog.d."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}


def test_every_fragment_is_in_it() -> None:
    """Each fragment is below the heading of its kind, whole; no other file is there."""
    fragments = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md"]
    assert {path.name.split(".")[1] for path in fragments} <= set(KINDS)
    printed = subprocess.run(
        [sys.executable, str(ROOT / "changelog.d/gather.py")], capture_output=True, text=True, check=True
    ).stdout
    _, *parts = printed.split("\n### ")
    below = {heading: " ".join(text.split()) for heading, _, text in (part.partition("\n") for part in parts)}
    for path in fragments:
        assert " ".join(path.read_text().split()) in below[KINDS[path.name.split(".")[1]]], path.name
