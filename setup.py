"""Name the packages; everything else about the distribution stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    # Twisted finds plugins in the namespace package twisted.plugins; it must stay without an __init__.py.
    packages=[*find_namespace_packages(include=["datamover", "datamover.*"]), "twisted.plugins"],
    # Named, so that an editable install puts the checkout itself on the path and the plugin is found there.
    package_dir={"": "."},
    package_data={"datamover": ["py.typed"], "datamover.jobs": ["*.sql", "migrations/*.sql"]},
)
