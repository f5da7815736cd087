"""The row of memory: the most that the service's process has when 64 transfers are under way at once."""

import time
from typing import Any
from xmlrpc.client import ServerProxy

from benchmarks.field import MEBIBYTE, Field
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale

AT_ONCE = 64
WATCHED = 20.0
"""Seconds for which the large transfers are watched; they would not fit on most disks, and are cancelled then."""
WIDE = f"""max_active = {AT_ONCE}
[limits]
per_source_host = {AT_ONCE}
max_active = {AT_ONCE}
"""
SMALL = "1 MiB"


def memory(scale: Scale) -> Result:
    """64 at once of 1 GiB beside 64 at once of 1 MiB, HTTP to the local disk and to SFTP by halves."""
    values: dict[str, list[float]] = {OURS: [], SMALL: []}
    for _ in range(scale.rounds):
        values[SMALL].append(_peak(MEBIBYTE))
        values[OURS].append(_peak(2**30))
    goals = [Goal(SMALL, at_most=1.3), Goal(None, at_most=250)]
    notes = f"peak RSS; transfers of 1 GiB watched for {WATCHED:.0f} s"
    return Result("memory", f"memory, {AT_ONCE} transfers at once of 1 GiB", "MB", values, goals, notes)


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
            told: Any = mover.jobs.wait(job["id"], 60)
            assert told["status"] == "COMPLETED", told
        else:
            time.sleep(WATCHED)
            moving: Any = mover.jobs.files(job["id"], {"limit": 1000})
            active = [file for file in moving if file["status"] == "IN_PROGRESS"]
            assert len(active) == AT_ONCE, f"only {len(active)} were under way"
            mover.jobs.cancel(job["id"])
        peak: float = field.service.memory() / 1e6
        return peak
