"""Modules in processes of their own: what they say, how they end, and that nothing of them stays."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from datamover.concurrency.threads import Threads
from datamover.datasets.ala.clean import ZipRequest
from datamover.datasets.ala.section import COLUMNS
from datamover.datasets.process import Progress, run_module
from datamover.errors import DataMoverError, Stalled
from tests.servers.ala import GOOD_ROWS, records_csv, records_zip

HERE = "tests.datasets.children"


async def running(request: dict[str, Any], progress: Progress, module: str, silence: float) -> Any:
    threads = Threads(reactor, "child", 1)
    try:
        return await run_module(reactor, threads.finish_hurried, module, request, progress, silence)
    finally:
        await threads.close()


def run(
    request: dict[str, Any], progress: Progress = lambda _: None, module: str = HERE, silence: float = 60.0
) -> "Deferred[Any]":
    return ensureDeferred(running(request, progress, module, silence))


@pytest_twisted.ensureDeferred
async def test_a_result() -> None:
    """The request arrives whole, progress is told as it comes, and the result returned."""
    told: list[Any] = []
    result = await run({"do": "echo", "value": "ü" * 300_000}, told.append)
    assert result == {"value": "ü" * 300_000}
    assert told == [{}, {"rows": 1}]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("refuse", "DATASET_EMPTY", "nothing there"),
        ("strange", "INTERNAL", "what is this"),
        ("full", "NO_SPACE", "no room left"),
        ("hungry", "DATASET_INVALID", "more than 1024 MiB of memory"),
        ("crash", "INTERNAL", "ended with status 1 and without a result"),
        ("die", "INTERNAL", "ended with status -9"),
        ("silent", "INTERNAL", "ended with status 0"),
    ],
)
async def test_errors(what: str, code: str, said: str) -> None:
    """An error is raised as the one with its code; an end without a word is ours to look into."""
    with pytest.raises(DataMoverError) as caught:
        await run({"do": what})
    assert caught.value.code == code
    assert said in caught.value.message


@pytest_twisted.ensureDeferred
async def test_no_such_module() -> None:
    """A module that cannot be run is an error of ours."""
    with pytest.raises(DataMoverError, match="without a result"):
        await run({}, module="tests.datasets.nothing_there")


@pytest_twisted.ensureDeferred
async def test_cancelling_kills(tmp_path: Path) -> None:
    """When the cancelled run has ended, the process is gone, however often it is cancelled."""
    told: list[Any] = []
    asleep = run({"do": "sleep"}, told.append)
    for _ in range(500):
        if len(told) > 1:
            break
        await task.deferLater(reactor, 0.01, lambda: None)
    asleep.cancel()
    asleep.cancel()
    with pytest.raises(CancelledError):
        await asleep
    with pytest.raises(ProcessLookupError):
        os.kill(told[1]["pid"], 0)


@pytest_twisted.ensureDeferred
async def test_cancelling_before_it_runs() -> None:
    """A run that is cancelled at once ends as well."""
    asleep = run({"do": "sleep"})
    asleep.cancel()
    with pytest.raises(CancelledError):
        await asleep


@pytest_twisted.ensureDeferred
async def test_a_process_that_hangs() -> None:
    """A process that says nothing for too long is ended, and that is what the dataset is told."""
    told: list[Any] = []
    with pytest.raises(Stalled, match="said nothing for 2 s and was ended"):
        await run({"do": "sleep"}, told.append, silence=2.0)
    with pytest.raises(ProcessLookupError):
        os.kill(told[1]["pid"], 0)


def peak_of(rows: int, directory: Path) -> int:
    """Return the most memory, in bytes, that cleaning so many rows takes in a process of its own."""
    row = (",".join(GOOD_ROWS[0]) + "\n").encode("utf-8")
    (directory / "records.zip").write_bytes(records_zip(records_csv([]) + row * rows))
    request = ZipRequest(str(directory / "records.zip"), str(directory / "out.csv"), dict(COLUMNS), [], 10**12, 10**6)
    program = (
        "import json, sys; from datamover.datasets.ala.clean import work\n"
        f"assert work(json.load(sys.stdin), lambda told: None)['kept'] == {rows}\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(asdict(request)), capture_output=True, text=True, check=True
    )
    return int(told.stdout) * 1024


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A hundred times the rows take no more memory to speak of, and that is little."""
    few, many = peak_of(3_000, tmp_path), peak_of(300_000, tmp_path)
    assert many < few + 10 * 2**20
    assert many < 100 * 2**20
