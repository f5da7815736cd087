"""A client that makes small calls and has a file moved, beside another that wants more than its share.

Tests of attacks let it be ``undisturbed`` while an attack goes on.
"""

import os
import resource
from base64 import b64encode
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from xmlrpc.client import dumps, loads

from tests.servers.door import WAIT
from tests.servers.service import Service

CALLS = 200
SOON = 0.1
"""Seconds in which 99 of 100 of the other client's calls are answered, in one of several rounds."""
ROUNDS = 6
"""A crowd that keeps others waiting does so in all."""
MEMORY = 400 * 2**20
"""Bytes of the whole process, whatever comes."""
DESCRIPTORS = 300
"""Files and sockets of the whole process, where no client opens many connections."""


class Polite:
    """A client on a connection that it keeps."""

    def __init__(self, service: Service, login: str = "portal:portal") -> None:
        self._service = service
        self._connection = HTTPConnection("127.0.0.1", service.port, timeout=WAIT)
        login = b64encode(login.encode()).decode()
        self._headers = {"Content-Type": "text/xml", "Authorization": f"Basic {login}"}

    def call(self, method: str, *parameters: Any) -> Any:
        self._connection.request("POST", "/RPC2", dumps(parameters, method), self._headers)
        answered = self._connection.getresponse()
        body = answered.read()
        assert answered.status == 200
        (value,), _ = loads(body)
        return value

    def slowest(self, method: str, *parameters: Any) -> float:
        """Return the seconds within which 99 of 100 calls are answered."""
        taken = []
        for _ in range(CALLS):
            began = self._service.moment()
            self.call(method, *parameters)
            taken.append(self._service.since(began))
        return sorted(taken)[CALLS * 99 // 100]

    def move(self, path: str) -> str:
        """Have a file moved; return what became of it."""
        source = {"destination": "archive", "path": "a.bin"}
        job = self.call("jobs.submit", {"source": source, "destination": "archive", "path": path})
        return str(self.call("jobs.wait", job["id"], WAIT / 2)["status"])

    def close(self) -> None:
        self._connection.close()


def greedily(service: Service, method: str, *parameters: Any) -> Any:
    """Make one call as the greedy client."""
    with closing(Polite(service, "greedy:greedy")) as greedy:
        return greedy.call(method, *parameters)


def memory(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def undisturbed(service: Service, path: str) -> None:
    """Assert that calls are answered soon, that a file moves to ``path``, and that the service stays within bounds."""
    with closing(Polite(service)) as polite:
        assert polite.move(path) == "COMPLETED"
        assert any(polite.slowest("jobs.list", {"limit": 1}) < SOON for _ in range(ROUNDS))
    assert memory(service.pid) < MEMORY
    assert descriptors(service.pid) < DESCRIPTORS
