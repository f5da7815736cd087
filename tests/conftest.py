"""What every test shares: nothing may be left behind in the reactor."""

import gc
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_twisted
from twisted.internet import reactor, task

from datamover.concurrency.pending import WorkerThread
from tests.servers import postgres
from tests.servers.swift import SwiftServer

# Hundreds of processes are started: each would compile all that it imports where Python may not keep what it compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A machine that is busy with something else is no reason to fail.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# What is collected stays; nothing of it need be looked through for cycles, then or each time during the tests.
gc.disable()


def pytest_collection_finish() -> None:
    """Have the collector pass over all that was imported and collected."""
    gc.enable()
    gc.collect()
    gc.freeze()


PATIENCE = 30.0
"""Seconds that what a test closed may take to be gone."""


def _loose_ends() -> tuple[set[object], set[object], set[object]]:
    calls: set[object] = {call for call in reactor.getDelayedCalls() if call.active()}
    selectables: set[object] = set(reactor.getReaders()) | set(reactor.getWriters())
    threads: set[object] = {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith("PoolThread-twisted.internet.reactor")
        and not (isinstance(thread, WorkerThread) and thread.doing is None)  # It ends by itself.
    }
    return calls, selectables, threads


@pytest.fixture(scope="session", autouse=True)
def _shared_database() -> Iterator[None]:
    """Stop the shared PostgreSQL within the last test: a process of pytest-xdist is not waited for after that."""
    yield
    postgres.stop_shared()


@pytest.fixture(scope="session")
def _started_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """One for all tests of a process: it is four servers, which take seconds to start."""
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def swift(_started_swift: SwiftServer) -> SwiftServer:
    """A Swift that is as it was started when a module's tests begin."""
    _started_swift.reset()
    return _started_swift


@pytest.fixture(autouse=True)
def _own_databases() -> Iterator[None]:
    """Drop the databases of a test after it; those of fixtures that several tests share are made before this one."""
    with postgres.dropped():
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a delayed call, a socket or a thread of its own."""
    # A turn of the reactor first: its own sockets are made when it begins to run.
    pytest_twisted.blockon(task.deferLater(reactor, 0, lambda: None))
    before = _loose_ends()
    yield
    waited = 0.0
    while True:
        left = [found - known for found, known in zip(_loose_ends(), before, strict=True)]
        if not any(left):
            return
        if waited >= PATIENCE:
            pytest.fail(f"left behind: {[item for kind in left for item in kind]}")
        pytest_twisted.blockon(task.deferLater(reactor, 0.02, lambda: None))
        waited += 0.02


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that another user may enter too: sshd's, nginx's and PostgreSQL's users are not root."""
    path = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)
