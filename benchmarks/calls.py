"""Rows of calls that submit work: how many the service accepts a second, while nothing is moved."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from xmlrpc.client import dumps

from benchmarks.field import Field
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale

CLIENTS = 8
CALLS = 8000
MANY_CALLS = 40
JOBS_A_CALL = 1000
ONLY_TAKING = 'roles = ["api"]\n[limits]\nqueued = 100_000_000'
URL = "http://127.0.0.1:1/occurrences.csv"


def submit(scale: Scale) -> Result:
    """``jobs.submit``, durable, from eight clients, compared with aria2's ``addUri``, which stores in memory only."""
    ours = dumps(({"source": URL, "destination": "here", "path": "moved/file.csv"},), "jobs.submit").encode()
    theirs = dumps(([URL], {"pause": "true"}), "aria2.addUri").encode()
    calls = scale.count(CALLS)
    values: dict[str, list[float]] = {OURS: [], "aria2 addUri": []}
    with Field(ONLY_TAKING) as field:
        for _ in range(scale.rounds):
            values[OURS].append(rate(field.service.port, "/data_mover", ours, calls))
            with _aria2() as port:
                values["aria2 addUri"].append(rate(port, "/rpc", theirs, calls))
    return Result("submit", f"`jobs.submit`, {CLIENTS} clients", "calls/s", values, [Goal("aria2 addUri", 1.0)])


def submit_many(scale: Scale) -> Result:
    """``jobs.submit_many`` with a thousand jobs a call, from eight clients."""
    request = [{"source": URL, "destination": "here", "path": f"moved/{number}.csv"} for number in range(JOBS_A_CALL)]
    body = dumps((request,), "jobs.submit_many").encode()
    calls = scale.count(MANY_CALLS)
    with Field(ONLY_TAKING) as field:
        rates = [JOBS_A_CALL * rate(field.service.port, "/data_mover", body, calls) for _ in range(scale.rounds)]
    what = f"`jobs.submit_many`, {JOBS_A_CALL:,} a call, {CLIENTS} clients"
    return Result("submit-many", what, "jobs/s", {OURS: rates}, [Goal(None, at_least=10_000)])


def rate(port: int, path: str, body: bytes, calls: int) -> float:
    """Return the calls a second of several clients, each of which repeats one call."""
    command = [sys.executable, "-m", "benchmarks.client", str(port), path, str(CLIENTS), str(calls)]
    return float(subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True).stdout)


@contextmanager
def _aria2() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        rpc = ["--enable-rpc", f"--rpc-listen-port={port}", "--dir", directory, "--no-conf", "--quiet"]
        with subprocess.Popen(["aria2c", *rpc]) as process:
            try:
                for _ in range(200):
                    try:
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    except OSError:
                        time.sleep(0.05)
                yield port
            finally:
                process.kill()
