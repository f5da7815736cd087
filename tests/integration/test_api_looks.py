"""``jobs.check``: how many inspections run at a time, and what they accept."""

import os
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xmlrpc.client import dumps

import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogLevel, capturedLogs

from datamover.bounds.calls import INSPECTIONS_AT_ONCE
from datamover.config.schema import Client, Limits, Sources
from tests.fakes import PlainLogins
from tests.protocols.reading import serving
from tests.servers.door import Door, config_of
from tests.servers.web import Exchange

PER_HOST = 12
CLIENTS = ("one", "two", "three")


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    config = config_of(
        tmp_path,
        clients={name: Client(password_hash="x") for name in CLIENTS},
        limits=Limits(per_source_host=PER_HOST),
        sources=Sources(allow=("http://127.0.0.1:*/",)),
    )
    door = Door(config, logins=PlainLogins({name: name for name in CLIENTS}))
    yield door
    await door.close()


@pytest_twisted.ensureDeferred
async def test_how_many_looks_there_are_at_a_time(door: Door) -> None:
    """A caller has some, whatever it calls, and one source's host no more than its transfers may be."""
    open_now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    waiting: list[Exchange] = []
    async with serving() as web:

        def held(exchange: Exchange) -> None:
            who = exchange.request.target.split("/")[1]
            for key in (who, "all"):
                open_now[key] += 1
                most[key] = max(most[key], open_now[key])
            waiting.append(exchange)

        for who in CLIENTS:
            for number in range(40):
                web.route(f"/{who}/{number}", held)

        def check(who: str, first: int) -> Deferred[Any]:
            files = [
                {"source": f"{web.url}/{who}/{number}", "destination": "archive", "path": f"{number}"}
                for number in range(first, first + 20)
            ]
            return door.ask(lambda s: s.jobs.check({"files": files}), login=f"{who}:{who}")

        asking = [check(who, first) for who in CLIENTS for first in (0, 20)]
        for _ in range(len(CLIENTS) * 40):
            while not waiting:
                await task.deferLater(reactor, 0.02)
            await task.deferLater(reactor, 0.005)
            exchange = waiting.pop(0)
            for key in (exchange.request.target.split("/")[1], "all"):
                open_now[key] -= 1
            exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        answers = await gatherResults(asking)
    assert all(answer["ok"] for answer in answers), answers
    assert max(most[who] for who in CLIENTS) <= INSPECTIONS_AT_ONCE
    assert most["all"] <= PER_HOST
    assert most["all"] > INSPECTIONS_AT_ONCE


@pytest_twisted.ensureDeferred
async def test_what_is_no_regular_file(door: Door, tmp_path: Path) -> None:
    """A pipe, a socket, a device and a directory are no files: neither to be read, nor to be replaced."""
    root = tmp_path / "archive"
    root.mkdir(exist_ok=True)
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    (root / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(root)
        listening.bind("socket")
        os.chdir(here)
        files = [
            {"source": {"destination": "archive", "path": name}, "destination": "archive", "path": f"copy-{name}"}
            for name in ("pipe", "socket", "directory", "file")
        ]
        files.append({"source": {"destination": "archive", "path": "file"}, "destination": "archive", "path": "pipe"})
        answer = await door.ask(lambda s: s.jobs.check({"files": files}), login="one:one")
    pipe, sock, directory, file, into = [each["problems"] for each in answer["files"]]
    assert pipe == ["source: archive:pipe is not a regular file: name a file"]
    assert sock == ["source: archive:socket is not a regular file: name a file"]
    assert directory == ["source: archive:directory is a directory: expected a file"]
    assert file == []
    assert into == ["destination 'archive': 'pipe' is not a regular file: remove it or take another name"]
    assert not answer["ok"]


@pytest_twisted.ensureDeferred
async def test_who_leaves_amid_a_look(door: Door) -> None:
    """A check that nobody waits for any more ends, and is no error in the log."""
    asked: list[Exchange] = []
    async with serving() as web:
        web.route("/silent", lambda exchange: asked.append(exchange))
        files = [{"source": f"{web.url}/silent", "destination": "archive", "path": f"{number}"} for number in range(20)]
        body = dumps(({"files": files},), "jobs.check").encode()
        login = f"Authorization: Basic {b64encode(b'one:one').decode()}"
        with capturedLogs() as log:
            with door.socket() as client:
                client.sendall(door.post(body, "Content-Type: text/xml", login))
                while len(asked) < INSPECTIONS_AT_ONCE:
                    await task.deferLater(reactor, 0.01)
            while door.runtimes.now.looks:
                await task.deferLater(reactor, 0.01)
    assert [event for event in log if event["log_level"] >= LogLevel.error] == []
    assert len(asked) == INSPECTIONS_AT_ONCE
