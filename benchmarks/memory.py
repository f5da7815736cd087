"""Rows of memory: the peak of the service's process while many transfers run concurrently."""

import sys
import time
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from benchmarks.field import MEBIBYTE, Field
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale

AT_ONCE = 64
WATCHED = 20.0
"""Seconds for which the large transfers run before they are cancelled; complete, they would not fit on most disks."""
WIDE = f"""max_active = {AT_ONCE}
[limits]
per_source_host = {AT_ONCE}
max_active = {AT_ONCE}
"""
SMALL = "1 MiB"
CROWD = 200
"""Transfers that one process must run concurrently without an error."""
CROWDED = f"""max_active = {CROWD}
[limits]
per_source_host = {CROWD}
per_owner = {CROWD}
max_active = {CROWD}
"""
MODEST = 16 * MEBIBYTE
PATIENCE = 300.0
"""Seconds."""


def memory(scale: Scale) -> Result:
    """64 concurrent files of 1 GiB, compared with 64 of 1 MiB; half from HTTP to the local disk, half to SFTP."""
    values: dict[str, list[float]] = {OURS: [], SMALL: []}
    for _ in range(scale.rounds):
        values[SMALL].append(_peak(MEBIBYTE))
        values[OURS].append(_peak(2**30))
    goals = [Goal(SMALL, at_most=1.3), Goal(None, at_most=250)]
    notes = f"peak RSS; transfers of 1 GiB watched for {WATCHED:.0f} s"
    return Result("memory", f"memory, {AT_ONCE} transfers at once of 1 GiB", "MB", values, goals, notes)


def crowd(scale: Scale) -> Result:
    """200 concurrent files of 16 MiB, half from HTTP to the local disk, half to SFTP, each in its first attempt."""
    values: list[float] = []
    descriptors = 0
    for _ in range(scale.rounds):
        with Field(CROWDED) as field, ServerProxy(field.service.url) as mover:
            field.file(field.web_root / "source.bin", MODEST)
            opened = _move_together(mover, f"{field.nginx.url}/source.bin", Path(f"/proc/{field.service.pid}/fd"))
            descriptors = max(descriptors, opened)
            values.append(field.service.memory() / 1e6)
    notes = f"peak RSS; at most {descriptors} descriptors"
    print(notes, file=sys.stderr)
    goals = [Goal(None, at_most=400)]
    return Result("crowd", f"memory, {CROWD} transfers at once of 16 MiB", "MB", {OURS: values}, goals, notes)


def _move_together(mover: Any, url: str, descriptors: Path) -> int:
    """Move the files; return the peak of open descriptors. Fails if one of them meets an error."""
    files = [
        {"source": url, "destination": ("here", "there")[number % 2], "path": f"moved/{number}"}
        for number in range(CROWD)
    ]
    job = mover.jobs.submit({"files": files})["id"]
    opened = active = 0
    ends_at = time.monotonic() + PATIENCE
    while (status := mover.jobs.status(job))["status"] in ("PENDING", "IN_PROGRESS"):
        assert time.monotonic() < ends_at, status
        opened = max(opened, len(list(descriptors.iterdir())))
        active = max(active, sum(line["active"] for line in mover.service.status()["queue"]))
        time.sleep(0.1)
    assert status["status"] == "COMPLETED", status
    assert "first_error" not in status, status
    assert active == CROWD, f"only {active} were under way at once"
    return opened


def _peak(size: int) -> float:
    with Field(WIDE) as field, ServerProxy(field.service.url) as mover:
        field.file(field.web_root / "source.bin", size)
        url = f"{field.nginx.url}/source.bin"
        places = ("here", "there")
        request = {
            "files": [
                {"source": url, "destination": places[number % 2], "path": f"moved/{number}"}
                for number in range(AT_ONCE)
            ]
        }
        job: Any = mover.jobs.submit(request)
        if size < 2**30:
            status: Any = mover.jobs.wait(job["id"], 60)
            assert status["status"] == "COMPLETED", status
        else:
            time.sleep(WATCHED)
            moving: Any = mover.jobs.files(job["id"], {"limit": 1000})
            active = [file for file in moving if file["status"] == "IN_PROGRESS"]
            assert len(active) == AT_ONCE, f"only {len(active)} were under way"
            mover.jobs.cancel(job["id"])
        peak: float = field.service.memory() / 1e6
        return peak
