"""Name the packages; everything else about the distribution stands in pyproject.toml."""

from glob import glob
from pathlib import Path
from runpy import run_path

from setuptools import find_namespace_packages, setup

CHANGES = Path("build/CHANGELOG.md")
CHANGES.parent.mkdir(exist_ok=True)
CHANGES.write_text(run_path("changelog.d/gather.py")["gathered"](), encoding="utf-8")

setup(
    # Twisted finds plugins in the namespace package twisted.plugins; it must stay without an __init__.py.
    packages=[*find_namespace_packages(include=["datamover", "datamover.*"]), "twisted.plugins"],
    # Named, so that an editable install puts the checkout itself on the path and the plugin is found there.
    package_dir={"": "."},
    # What an operator reads and copies: the package looks for it below the prefix that it is installed in.
    data_files=[
        ("share/doc/datamover", ["README.md", str(CHANGES), *sorted(glob("docs/*.md")), *glob("docs/*.svg")]),
        ("share/datamover", sorted(glob("etc/*.*"))),
        ("share/man/man1", ["docs/man/datamover-admin.1"]),
        ("share/man/man5", ["docs/man/datamover.toml.5"]),
    ],
    package_data={"datamover": ["py.typed"], "datamover.jobs": ["*.sql", "migrations/*.sql"]},
)
