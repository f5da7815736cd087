"""SFTP servers that hang while they log in, and go on talking."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import LoopingCall

from datamover import errors
from datamover.protocols.place import DestinationPool
from datamover.protocols.sftp.client import leases
from datamover.protocols.sftp.ssh import transport
from datamover.protocols.sftp.ssh.transport import SshTransport
from tests.protocols.sftp import PART, opened, pour, send, started, writing
from tests.servers.conch import PASSWORD
from tests.servers.hanging_ssh import STAGES, HangingServer
from tests.servers.sshd import Sshd
from tests.waiting import until


@asynccontextmanager
async def hanging(
    sshd: Sshd, directory: Path, stage: str | None
) -> AsyncIterator[tuple[HangingServer, DestinationPool]]:
    (secret := directory / "password").write_text(PASSWORD)
    secret.chmod(0o600)
    server = HangingServer(reactor, directory, sshd.directory / "host_ed25519", stage=stage, pause=0.02)
    try:
        async with opened(server, password_file=secret, connect_timeout=0.5, idle_timeout=0.5) as pool:
            yield server, pool
        await until(lambda: not server.connections)
    finally:
        await server.stop()


@pytest.mark.parametrize("stage", STAGES)
@pytest_twisted.ensureDeferred
async def test_a_login_that_hangs(sshd: Sshd, tmp_path: Path, stage: str) -> None:
    """Wherever it hangs, all who wait are told so at the same time, the connection ends, and the next one is served."""
    async with hanging(sshd, tmp_path, stage) as (server, pool):
        waiting = [started(pool.connect()) for _ in range(6)]
        for each in waiting:
            with pytest.raises(errors.TimedOut, match=r"within 0\.5 s"):
                await each
        assert server.reached == 1
        await until(lambda: not server.connections)
        server.stage = None
        await send(writing(pool), "file", b"data")


@pytest_twisted.ensureDeferred
async def test_further_channels_that_hang(sshd: Sshd, tmp_path: Path) -> None:
    """A server that answers nothing where a further channel is opened serves all over those that are open."""
    async with hanging(sshd, tmp_path, None) as (server, pool):
        await pool.connect()
        server.stage = "channel"
        for turn in ("first", "second"):
            sending = (send(writing(pool), f"{turn}{n}", b"data") for n in range(6))
            await gatherResults([started(each) for each in sending])
            asked, server.reached = server.reached, 0
            assert bool(asked) is (turn == "first")
        assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_messages_without_end(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that sends tiny messages without end few are read in one turn; the login has its time."""
    taken: list[int] = []
    reader = SshTransport.dispatchMessage

    def dispatch(transport: SshTransport, *message: Any) -> None:
        taken[-1] += 1
        reader(transport, *message)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(SshTransport, "dispatchMessage", dispatch)
    turns = LoopingCall(taken.append, 0)
    turns.start(0)
    try:
        async with hanging(sshd, tmp_path, "keys") as (server, pool):
            server.floods = True
            with pytest.raises(errors.TimedOut):
                await pool.connect()
    finally:
        turns.stop()
    assert sum(taken) > 2000
    assert max(taken) <= 512


@pytest_twisted.ensureDeferred
async def test_a_server_that_no_longer_reads(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is not used any more ends, though the server does not take what was sent to it."""
    monkeypatch.setattr(leases, "IDLE", 0.1)
    monkeypatch.setattr(transport, "PATIENCE", 0.2)
    async with hanging(sshd, tmp_path, None) as (server, pool):
        sink = await writing(pool).open_part(PART, "file")
        server.go_deaf()
        with pytest.raises(errors.Stalled):
            await pour(sink)
        await sink.close()
        await until(lambda: not server.connections)
