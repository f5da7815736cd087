"""Gather the fragments of this directory into one text: ``python changelog.d/gather.py > CHANGELOG.md``.

Needs nothing but Python: the wheel's build calls it, too.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}


def gathered() -> str:
    """Return the change log: the fragments of each kind, by their file's name."""
    init = (HERE.parent / "datamover/__init__.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "([^"]+)"', init)
    assert version is not None
    parts = [f"# Changes\n\n## {version[1]}\n"]
    for kind, heading in KINDS.items():
        fragments = sorted(HERE.glob(f"*.{kind}.md"))
        if fragments:
            parts.append(f"\n### {heading}\n\n")
            parts += (_item(path) for path in fragments)
    return "".join(parts)


def _item(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return "- " + "\n  ".join(lines) + "\n"


if __name__ == "__main__":
    print(gathered(), end="")
