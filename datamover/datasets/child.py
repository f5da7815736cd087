"""The child's side of ``datasets.process``: one request in, progress and one outcome out, in bounded memory."""

import errno
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from datamover.bounds.datasets import CLEANING_MEMORY
from datamover.errors import DataMoverError, DatasetInvalid, NoSpace, Scope

NICENESS = 10
"""The child's nice(2) value: the service goes first."""
INTERVAL = 0.25
"""Seconds between two reports of progress."""

Report = Callable[[Mapping[str, Any]], None]
Work = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]


def serve(work: Work) -> None:
    """Do the work of one request from standard input, and write its outcome to standard output."""
    os.nice(NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = CLEANING_MEMORY if hard == resource.RLIM_INFINITY else min(CLEANING_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    request = json.load(sys.stdin)
    try:
        _write({"result": work(request, _Paced())})
    except DataMoverError as error:
        _write(_told(error))
    except MemoryError:
        _write(_told(DatasetInvalid(f"more than {CLEANING_MEMORY // 2**20} MiB of memory are needed to read it")))
    except OSError as trouble:
        if trouble.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _write(_told(NoSpace("there is no room left to clean a dataset on this node", scope=Scope.SERVICE)))


def _told(error: DataMoverError) -> Mapping[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "scope": error.scope.value}}


class _Paced:
    """Writes a report every ``INTERVAL`` at most; raises BrokenPipeError if the parent has ended."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, told: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            _write({"progress": told})


def _write(told: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
