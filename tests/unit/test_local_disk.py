"""The blocking operations on files."""

import os
import resource
from pathlib import Path

from datamover.errors import DataMoverError, Scope
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.disk import Disk
from datamover.protocols.local.refusals import DiskRefusals


def test_no_descriptor_is_lost_where_there_are_none_left(tmp_path: Path) -> None:
    """A placing that fails since the process has too many files open leaves none open, at whichever step it fails."""
    (tmp_path / "part").write_bytes(b"data")
    disk = Disk(str(tmp_path), 0o755, DiskRefusals("archive", Scope.DESTINATION), Lacks(lambda: 0.0))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    outcomes = set()
    for spare in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, limits[1]))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for _ in range(spare):
            os.close(taken.pop())
        try:
            disk.end_placing(disk.begin_placing("part", "deep/target", 4, True))
            outcomes.add(True)
        except DataMoverError:
            outcomes.add(False)
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(os.listdir("/proc/self/fd")) == before
    assert outcomes == {True, False}
