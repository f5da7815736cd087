"""One SSH connection under many transfers: its channels, its keys, its end."""

import hashlib
import os
import signal
import socket
from math import inf
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, gatherResults

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.place import DestinationPool, Place
from datamover.protocols.sftp.client import channel, leases, write_channels
from datamover.protocols.sftp.ssh.transport import SshTransport
from tests.protocols.sftp import (
    LARGE,
    MIB,
    PART,
    drain,
    noise,
    opened,
    pour,
    reading,
    send,
    sha256,
    started,
    writing,
)
from tests.servers.ssh import descendants
from tests.servers.sshd import Sshd
from tests.waiting import until


async def open_and_close(place: Place) -> None:
    source = await place.origin("file").open()
    await source.close()


@pytest_twisted.ensureDeferred
async def test_server_changes_keys(open_directory: Path) -> None:
    """A server that changes keys after every MiB, in the middle of transfers, loses no byte."""
    sshd = Sshd(open_directory, config="RekeyLimit 1M")
    sshd.start()
    data = noise(12 * MIB)
    try:
        async with opened(sshd) as pool:
            await send(writing(pool), "a", data)
            await gatherResults([started(send(writing(pool), "b", data)), started(sha256(reading(pool), "a"))])
            assert await sha256(reading(pool), "b") == hashlib.sha256(data).hexdigest()
            assert _transport(pool).key_exchanges > 20
    finally:
        sshd.stop()


@pytest_twisted.ensureDeferred
async def test_client_changes_keys(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are changed from our side too, long before the cipher's limit, both while sending and while receiving."""
    monkeypatch.setattr(SshTransport, "REKEY_OCTETS", MIB)
    data = noise(8 * MIB)
    async with opened(sshd) as pool:
        await send(writing(pool), "a", data)
        sent = _transport(pool).key_exchanges
        assert await sha256(reading(pool), "a") == hashlib.sha256(data).hexdigest()
        assert sent > 3
        assert _transport(pool).key_exchanges > sent + 3


@pytest_twisted.ensureDeferred
async def test_one_connection(sshd: Sshd) -> None:
    """Twenty transfers at once share one TCP connection and no more channels than a server allows."""
    data = {f"file-{number}": noise(MIB + number) for number in range(20)}

    async def there_and_back(pool: DestinationPool, name: str) -> None:
        await send(writing(pool), name, data[name])
        assert await sha256(reading(pool), name) == hashlib.sha256(data[name]).hexdigest()

    async with opened(sshd) as pool:
        await gatherResults([started(there_and_back(pool, name)) for name in data])
        assert len(sshd.connections()) == 1
    assert sshd.log.count("Accepted publickey") == 1
    assert "no more sessions" not in sshd.log


@pytest_twisted.ensureDeferred
async def test_hundreds_at_once(sshd: Sshd) -> None:
    """Hundreds that begin at the same moment all get their turn, though there are but a few channels."""
    (sshd.root / "file").write_bytes(b"data")
    async with opened(sshd) as pool:
        found = await gatherResults([started(reading(pool).inspect("file")) for _ in range(400)])
    assert [getattr(one, "size", None) for one in found] == [4] * 400


@pytest_twisted.ensureDeferred
async def test_few_channels(open_directory: Path) -> None:
    """Where the server allows but two channels, transfers share those."""
    sshd = Sshd(open_directory, config="MaxSessions 2")
    sshd.start()
    try:
        async with opened(sshd) as pool:
            sinks = [await writing(pool).open_part(f"part-{number}", "file") for number in range(5)]
            for number, sink in enumerate(sinks):
                await sink.write(bytes([number]))
            assert [await sink.flush() for sink in sinks] == [1] * 5
            for sink in sinks:
                await sink.close()
        assert [(sshd.root / f"part-{number}").read_bytes() for number in range(5)] == [bytes([n]) for n in range(5)]
    finally:
        sshd.stop()


@pytest.mark.parametrize("sessions", [1, 10])
@pytest_twisted.ensureDeferred
async def test_far_server(open_directory: Path, monkeypatch: pytest.MonkeyPatch, sessions: int) -> None:
    """One file for a server far away goes over several channels, where the server has them, and arrives whole."""
    monkeypatch.setattr(channel, "FAR", -1.0)
    sshd = Sshd(open_directory, config=f"MaxSessions {sessions}")
    sshd.start()
    data = noise(LARGE)
    try:
        async with opened(sshd) as pool:
            assert await send(writing(pool), PART, data) == LARGE
            sink = await writing(pool).open_part("left", "file")
            await sink.write(data)
            await sink.close()
            await until(lambda: _open_files(sshd) == 0)
        assert (sshd.root / PART).read_bytes() == data
        assert (sshd.log.count("Starting session: subsystem 'sftp'") > 1) == (sessions > 1)
    finally:
        sshd.stop()


@pytest.mark.parametrize(("size", "most"), [(write_channels.NEAR_FROM, 1), (LARGE, write_channels.NEAR_CHANNELS)])
@pytest_twisted.ensureDeferred
async def test_near_server(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, size: int, most: int) -> None:
    """A large file goes over a few channels near by too, and arrives whole; one that is soon there does not."""
    monkeypatch.setattr(channel, "FAR", inf)  # What is busy may answer as late as what is far.
    data = noise(LARGE)[:size]
    async with opened(sshd) as pool:
        sink = await writing(pool).open_part(PART, "file")
        for start in range(0, size, MIB):
            await sink.write(data[start : start + MIB])
        assert await sink.finish(modified=None) == size
        await sink.close()
        await until(lambda: _open_files(sshd) == 0)
    assert (sshd.root / PART).read_bytes() == data
    channels = sshd.log.count("Starting session: subsystem 'sftp'")
    assert min(2, most) <= channels <= most


@pytest_twisted.ensureDeferred
async def test_flush_while_writing(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush is for what was written before it, and ends though writing goes on; all of that is there then."""
    monkeypatch.setattr(channel, "FAR", -1.0)
    data = noise(LARGE)
    async with opened(sshd) as pool:
        sink = await writing(pool).open_part(PART, "file")
        flushes = []
        for start in range(0, LARGE, MIB + 1):
            await sink.write(data[start : start + MIB + 1])
            if start % 5 == 0:
                flushes.append((min(start + MIB + 1, LARGE), started(sink.flush())))
        for end, flush in flushes:
            assert await flush == end
        assert (sshd.root / PART).read_bytes()[: flushes[-1][0]] == data[: flushes[-1][0]]
        assert await sink.finish(modified=None) == LARGE
        await sink.close()
    assert (sshd.root / PART).read_bytes() == data


@pytest_twisted.ensureDeferred
async def test_far_server_that_dies(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection killed while one file goes over several channels is CONNECTION_LOST, and all of them are let go."""
    monkeypatch.setattr(channel, "FAR", -1.0)
    async with opened(sshd) as pool:
        for pause in (0.0, 0.01, 0.05, 0.2):
            sink = await writing(pool).open_part(PART, "file")
            pouring = started(pour(sink))
            await task.deferLater(reactor, pause)
            sshd.cut()
            with pytest.raises(errors.ConnectionLost):
                await pouring
            await sink.close()


@pytest_twisted.ensureDeferred
async def test_connection_cut_while_reading(sshd: Sshd) -> None:
    """A connection killed in the middle of a read is CONNECTION_LOST, and the next use connects again and goes on."""
    with (sshd.root / "file").open("wb") as file:
        file.truncate(64 * MIB)
    async with opened(sshd) as pool:
        source = await reading(pool).origin("file").open()
        await source.read()
        sshd.cut()
        with pytest.raises(errors.ConnectionLost, match="'vis'") as caught:
            await drain(source)
        await source.close()
        assert caught.value.scope is Scope.SOURCE
        identity = source.inspection.identity
        source = await reading(pool).origin("file").open(MIB, identity)
        assert source.offset == MIB
        await source.read()
        await source.close()
    assert sshd.log.count("Accepted publickey") == 2


@pytest_twisted.ensureDeferred
async def test_connection_cut_while_writing(sshd: Sshd) -> None:
    """A connection killed in the middle of a write is CONNECTION_LOST; writing on from what was flushed completes."""
    data = noise(20 * MIB)
    async with opened(sshd) as pool:
        sink = await writing(pool).open_part(PART, "file")
        await sink.write(data[: 5 * MIB])
        kept = await sink.flush()
        sshd.cut()
        with pytest.raises(errors.ConnectionLost) as caught:
            await pour(sink)
        await sink.close()
        assert caught.value.scope is Scope.DESTINATION
        assert await send(writing(pool), PART, data[kept:], offset=kept) == len(data)
    assert (sshd.root / PART).read_bytes() == data


@pytest_twisted.ensureDeferred
async def test_restarted_server(sshd: Sshd) -> None:
    """A server that was restarted while nothing moved is connected to again."""
    async with opened(sshd) as pool:
        await pool.connect()
        sshd.restart()
        await until(lambda: not _link_usable(pool))
        await send(writing(pool), "file", b"data")


@pytest_twisted.ensureDeferred
async def test_idle_connection(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that nothing uses is closed after a while, not before, and made again when it is needed."""
    monkeypatch.setattr(leases, "IDLE", 0.2)
    async with opened(sshd) as pool:
        (sshd.root / "file").write_bytes(b"data")
        source = await reading(pool).origin("file").open()
        await task.deferLater(reactor, 0.5)
        assert await source.read() == b"data"
        assert sshd.connections()
        await source.close()
        await until(lambda: not sshd.connections())
        await send(writing(pool), "file", b"new")


@pytest_twisted.ensureDeferred
async def test_stopped_server(sshd: Sshd) -> None:
    """A server that stops answering is STALLED after idle_timeout, whoever waits, and the pool still closes."""
    with (sshd.root / "file").open("wb") as file:
        file.truncate(64 * MIB)
    async with opened(sshd, idle_timeout=0.5) as pool:
        source = await reading(pool).origin("file").open()
        sink = await writing(pool).open_part(PART, "file")
        frozen = descendants(sshd.pid)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(errors.Stalled, match=r"0\.5 s"):
                await drain(source)
            with pytest.raises((errors.Stalled, errors.ConnectionLost)):
                await pour(sink)
            await source.close()
            await sink.close()
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)


@pytest_twisted.ensureDeferred
async def test_cancelled_connect(sshd: Sshd) -> None:
    """Cancelling one of two who wait for the connection leaves the other; cancelling both leaves nothing."""
    async with opened(sshd) as pool:
        first, second = started(pool.connect()), started(pool.connect())
        first.cancel()
        with pytest.raises(CancelledError):
            await first
        await second
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with opened(sshd, url=f"sftp://user@127.0.0.1:{silent.getsockname()[1]}/srv") as pool:
            attempt = started(pool.connect())
            await task.deferLater(reactor, 0.1)
            attempt.cancel()
            with pytest.raises(CancelledError):
                await attempt


@pytest_twisted.ensureDeferred
async def test_closed_while_connecting(sshd: Sshd) -> None:
    """Closing a pool ends the attempt to connect, and what is asked of it later."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with opened(sshd, url=f"sftp://user@127.0.0.1:{silent.getsockname()[1]}/srv") as pool:
            attempt = started(pool.connect())
            await task.deferLater(reactor, 0.1)
            await pool.close()
            with pytest.raises(errors.ConnectionLost):
                await attempt
            with pytest.raises(errors.ConnectionLost, match="closed"):
                await pool.connect()


@pytest_twisted.ensureDeferred
async def test_closed_while_moving(sshd: Sshd) -> None:
    """Closing a pool ends what moves over it with CONNECTION_LOST."""
    async with opened(sshd) as pool:
        sink = await writing(pool).open_part(PART, "file")
        moving = started(pour(sink))
        await pool.close()
        with pytest.raises(errors.ConnectionLost):
            await moving
        await sink.close()


@pytest_twisted.ensureDeferred
async def test_cancelled_open(sshd: Sshd) -> None:
    """Opening a file may be cancelled at any moment; what the server opened is closed again."""
    (sshd.root / "file").write_bytes(b"data")
    async with opened(sshd) as pool:
        await pool.connect()
        for moment in range(12):
            opening = started(open_and_close(reading(pool)))
            for _ in range(moment):
                await task.deferLater(reactor, 0.001)
            opening.cancel()
            try:
                await opening
            except CancelledError:
                continue
        assert await sha256(reading(pool), "file") == hashlib.sha256(b"data").hexdigest()
        await until(lambda: _open_files(sshd) == 0)


def _transport(pool: DestinationPool) -> SshTransport:
    transport: SshTransport = pool._links[-1]._transport  # type: ignore[attr-defined]
    return transport


def _link_usable(pool: DestinationPool) -> bool:
    usable: bool = pool._links[-1].usable  # type: ignore[attr-defined]
    return usable


def _open_files(sshd: Sshd) -> int:
    """Count the files below the root that the server holds open."""
    found = 0
    for pid in descendants(sshd.pid):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found += os.readlink(link).startswith(str(sshd.root))
            except OSError:
                continue
    return found
