"""Engine processes, kept running whatever goes wrong about them: with their keeper, their words, their loops."""

import os
import signal
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent

from datamover.concurrency.loops import Loops
from datamover.config.load import load
from datamover.config.schema import Config
from datamover.datasets.configured import CONFIG
from datamover.engine.share import ALONE
from datamover.processes.child import Child
from datamover.processes.messages import ChildConfig, StatusMessage
from datamover.processes.metrics_buffer import MetricsBuffer
from datamover.processes.service import EngineProcesses
from tests.servers import postgres
from tests.waiting import until

NODE = "6f9619ff-8b86-4d01-b42d-00c04fc964ff"


@pytest.fixture
def settings(open_directory: Path) -> Config:
    """A database, and one engine process."""
    file = open_directory / "datamover.toml"
    file.write_text(
        f'[service]\ndata_directory = "{open_directory}/data"\n[database]\nurl = "{postgres.shared().fresh()}"\n'
        f'[destinations.archive]\nurl = "file://{open_directory}/archive"\n'
    )
    return load(file, CONFIG)


@pytest_twisted.ensureDeferred
async def test_a_bug_of_its_keeper(settings: Config) -> None:
    """A process that dies is replaced, also where putting back what it held raises what nobody foresaw."""
    failures: list[str] = []
    buried: list[str] = []
    gave_up: list[str] = []

    async def opened() -> None:
        pass

    async def release_node(node: str) -> tuple[int, bool]:
        buried.append(node)
        if len(buried) == 1:
            raise RuntimeError("nobody foresaw this")
        return 0, False

    processes = EngineProcesses(
        reactor,
        lambda: settings,
        opened=opened,
        release_node=release_node,
        counts=MetricsBuffer(),
        ended=lambda: None,
        logged=lambda *_: None,
        give_up=gave_up.append,
        loops=Loops(reactor, failures.append),
    )
    processes.startService()
    try:
        await until(lambda: processes.working)
        [killed] = processes.pids.values()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: processes.working and killed not in processes.pids.values())
        assert failures == ["processes"]
        assert len(buried) == 1
    finally:
        await processes.stopService()
    assert not gave_up


@pytest_twisted.ensureDeferred
async def test_a_process_that_hangs(settings: Config) -> None:
    """A process that says that a loop of it hangs is ended, in order if it can be, for another to take its place.

    A word that its hearer does not bear is logged, and the next one heard.
    """
    heard: list[StatusMessage] = []

    def hear(word: StatusMessage) -> None:
        heard.append(word)
        if len(heard) == 1:
            raise RuntimeError("nobody foresaw this")

    with capturedLogs() as told:
        child = Child(reactor, ChildConfig(NODE, ALONE, settings), on_status=hear, on_log=lambda *_: None)
        await until(lambda: child.working)
        assert not child.troubles
        child.outReceived(StatusMessage(True, troubles=("claims hang",), stuck=True).line().encode())
        assert child.troubles == ("claims hang",)
        await child.ended()
    assert child.clean
    lines = [formatEvent(event) for event in told]
    assert f"engine process {child.pid} hangs and is replaced: claims hang" in lines
    assert f"engine process {child.pid}: a status message could not be handled" in lines
