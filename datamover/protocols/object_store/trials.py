"""The objects by which it is tried what a service supports, and the leftovers of such trials. Pure."""

import os
import re

from datamover.protocols.object_store.seam import FoundObject

BEGINNING = ".datamover-"
OLD = 3600.0
"""Seconds after which no process uses such an object any more."""

_PROBE = re.compile(r"\.datamover-probe-[0-9a-f]{16}")
_TEST = re.compile(r"\.datamover-(test-[0-9a-f]{16})")
"""The file that ``registry.probe`` writes; the group is its upload's name."""


def new_trial() -> str:
    """Return a new path for one, directly below the root."""
    return f".datamover-probe-{os.urandom(8).hex()}"


def is_probe(path: str) -> bool:
    """Tell whether a path is one of ``new_trial``."""
    return _PROBE.fullmatch(path) is not None


def is_trial(path: str) -> bool:
    """Tell whether a path is that of such an object."""
    return is_probe(path) or _TEST.fullmatch(path) is not None


def is_left(path: str, found: FoundObject) -> bool:
    """Tell whether an object with such a path is a leftover: ours, and old by the service's clock."""
    test = _TEST.fullmatch(path)
    ours = found.upload == test[1] if test else is_trial(path) and found.inspection.size == 0
    return ours and found.age is not None and found.age >= OLD
