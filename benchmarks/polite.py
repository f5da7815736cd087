"""A row of a crowded service: the latency of one client's small calls while others use more than their share."""

import http.client
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy, dumps

from argon2 import PasswordHasher

from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale
from tests.servers.crowds import crowd
from tests.servers.service import Service

CALLS = 2000
GOAL = 25.0
"""Milliseconds."""
CROWDS = (
    ("100 connections that pipeline", "health", 100, ""),
    ("10 bodies of 64 MiB", "bodies", 10, "greedy:greedy"),
    ("1,000 calls that wait", "waits", 1000, "greedy:greedy"),
)
SETTLING = 3.0
"""Seconds from the start of a crowd to the first call that is measured."""
TABLES = """
[limits]
connections = 8000
connections_per_address = 4000
waiting_calls = 6000
[clients.polite]
password_hash = "{polite}"
[clients.greedy]
password_hash = "{greedy}"
[destinations.here]
url = "file://{directory}/here"
[sources]
allow = ["http://127.0.0.1:1/"]
"""
UNFINISHED = {"source": "http://127.0.0.1:1/x", "destination": "here", "path": "x", "max_attempts": 100}
"""A job that is retried for as long as the row takes."""


def polite(scale: Scale) -> Result:
    """``jobs.list`` of one client on a persistent connection; the worst of three crowds counts."""
    calls = scale.count(CALLS)
    slowest: dict[str, list[float]] = {name: [] for name, *_ in CROWDS}
    with _service() as service:
        with ServerProxy(f"http://greedy:greedy@127.0.0.1:{service.port}/RPC2") as greedy:
            made: Any = greedy.jobs.submit(UNFINISHED)
        for _ in range(scale.rounds):
            for name, kind, connections, login in CROWDS:
                with crowd(kind, service.port, connections, login=login, job=made["id"]):
                    time.sleep(SETTLING)
                    slowest[name].append(_slowest(service.port, calls))
    worst = [max(round_) for round_ in zip(*slowest.values(), strict=True)]
    notes = "; ".join(f"{name}: {statistics.median(values):.1f}" for name, values in slowest.items())
    what = "a small call while others overload the interface, 99 of 100 within"
    return Result("polite", what, "ms", {OURS: worst}, [Goal(None, at_most=GOAL)], notes)


@contextmanager
def _service() -> Iterator[Service]:
    hashed = PasswordHasher().hash
    with tempfile.TemporaryDirectory(prefix="datamover-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        tables = TABLES.format(directory=directory, polite=hashed("polite"), greedy=hashed("greedy"))
        service = Service(directory, tables)
        service.start_behind_a_login()
        try:
            yield service
        finally:
            service.stop()


def _slowest(port: int, calls: int) -> float:
    """Return the 99th percentile of the calls' latency, in milliseconds."""
    login = b64encode(b"polite:polite").decode()
    headers = {"Content-Type": "text/xml", "Authorization": f"Basic {login}"}
    body, taken = dumps(({"limit": 1},), "jobs.list"), []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(calls):
            began = time.perf_counter()
            connection.request("POST", "/RPC2", body, headers)
            answer = connection.getresponse()
            assert b"<fault>" not in answer.read()
            assert answer.status == 200
            taken.append(time.perf_counter() - began)
    return 1000 * sorted(taken)[min(len(taken) - 1, len(taken) * 99 // 100)]
