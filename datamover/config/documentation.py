"""Find the pages and samples that are installed beside the package: documentation, and files to copy."""

import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]
_PLACES = (
    (_CHECKOUT / "docs", "share/doc/datamover"),
    (_CHECKOUT / "etc", "share/datamover"),
)
"""Where they are in a checkout, and where an installation has them."""


def documentation(name: str) -> str:
    """Return the path of a page of the documentation; ``docs/NAME`` where it is not installed."""
    return str(_find(name, *_PLACES[0]) or f"docs/{name}")


def sample(name: str) -> Path | None:
    """Return the path of a sample file, None where it is not installed."""
    return _find(name, *_PLACES[1])


def _find(name: str, checkout: Path, installed: str) -> Path | None:
    if (_CHECKOUT / "pyproject.toml").is_file():
        return checkout / name
    return next((path for path in _candidates(f"{installed}/{name}") if path.is_file()), None)


def _candidates(relative: str) -> list[Path]:
    try:
        recorded = [Path(each.locate()) for each in files("datamover") or () if str(each).endswith(relative)]
    except PackageNotFoundError:
        recorded = []
    return [*recorded, Path(sys.prefix) / relative]
