"""FTP connections that break at every point of an upload: that is to be tried again, and the next attempt mends all."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from datamover.errors import DataMoverError, Scope
from datamover.protocols.ftp.place import FtpPlace
from datamover.protocols.part_files.names import part_path
from datamover.protocols.place import DestinationPool
from tests.protocols.conformance import KEY, content, get
from tests.protocols.ftp import pool_at
from tests.servers.wayward_ftp import PASSWORD, Break, Session, WaywardFtp

OLD, DATA = b"what was there", content(400_000)
SMALL = DATA[:1000]
MOST = 100
"""Commands of an upload, at most."""


async def stream(place: Any) -> None:
    """Upload, with a look midway at what has arrived, over what is there."""
    upload = place.begin("in/file", KEY, size=len(DATA))
    try:
        await upload.open()
        await upload.write(DATA[:100_000])
        await upload.flush()
        await upload.write(DATA[100_000:])
        assert (await upload.finish()).offset == len(DATA)
        await upload.close()
        await upload.commit(replace=True)
    finally:
        await upload.close()


async def store(place: Any) -> None:
    upload = place.begin("in/file", KEY, size=len(SMALL))
    await upload.store(SMALL, replace=True, commit=lambda: None)


def refuses_existing(session: Session, path: str) -> None:
    if path in session.server.files:
        session.say("553 file exists")
    else:
        session.do_RNTO(path)


@pytest.mark.parametrize("aside", [False, True], ids=["replaces", "sets-aside"])
@pytest.mark.parametrize("done", [False, True], ids=["not-done", "done"])
@pytest.mark.parametrize(("way", "data"), [(stream, DATA), (store, SMALL)], ids=["stream", "store"])
@pytest_twisted.ensureDeferred
async def test_broken_at_every_command(tmp_path: Path, way: Any, data: bytes, done: bool, aside: bool) -> None:
    """Wherever all connections break, the name has the old file or the new one, whole; the next attempt leaves one."""
    server = WaywardFtp({"RNTO": refuses_existing} if aside else None)
    server.start()
    options = _options(tmp_path)
    try:
        for point in range(MOST):
            server.files, server.directories = {"/in/file": OLD}, {"/", "/in"}
            pool = pool_at(server.url, options, timeout=5.0)
            try:
                if not await _breaks(server, pool, way, Break(point, done), data, aside):
                    return
            finally:
                await pool.close()
        raise AssertionError("an upload has no end of commands")
    finally:
        await server.stop()


async def _breaks(server: WaywardFtp, pool: DestinationPool, way: Any, breaks: Break, data: bytes, aside: bool) -> bool:
    """Break at one point, and have the next attempt; tell whether the upload got that far."""
    place = pool.at(Scope.DESTINATION)
    assert isinstance(place, FtpPlace)
    server.breaks = breaks
    met: DataMoverError | None = None
    try:
        await way(place)
    except DataMoverError as error:
        met = error
    assert met is None or (met.retryable and met.scope is Scope.DESTINATION), (breaks, met)
    broke, server.breaks = server.breaks is None, None
    held = server.files.get("/in/file")
    assert held in (OLD, data) or (aside and held is None), breaks
    await place.sweep("in/file", KEY.transfer, check=lambda: None, keep=part_path("in/file", KEY))
    await way(place)
    assert server.files == {"/in/file": data}, breaks
    assert server.directories == {"/", "/in"}, breaks
    return broke


@pytest.fixture
def some() -> list[int]:
    """The bytes after which the server ends a data connection; a test sets it anew."""
    return [0]


@pytest.mark.parametrize("end", ["abortConnection", "loseConnection"])
@pytest_twisted.ensureDeferred
async def test_data_connection_broken(tmp_path: Path, some: list[int], end: str) -> None:
    """Wherever a server ends the data connection, and says that it has all, nothing less is taken for the file."""

    def store(session: Session, path: str) -> None:
        session.do_STOR(path)
        assert session.data is not None
        session.data.most, session.data.end = some[0], end

    def retrieve(session: Session, _: str) -> None:
        session.say("150 here it comes")
        own = session.data
        assert own is not None

        def connected(_: object) -> None:
            own.transport.write(DATA[: some[0]])
            session.transport.reactor.callLater(0, getattr(own.transport, end))

        own.made.addCallback(connected)
        own.ended.addCallback(lambda _: session.say("226 sent"))

    server = WaywardFtp({"STOR": store, "RETR": retrieve})
    server.start()
    pool = pool_at(server.url, _options(tmp_path), timeout=5.0)
    try:
        server.files, server.directories = {"/in/file": OLD}, {"/", "/in"}
        for some[0] in (1, 65536, len(DATA) // 2):
            with pytest.raises(DataMoverError) as caught:
                await stream(pool.at(Scope.DESTINATION))
            assert caught.value.retryable
            assert server.files["/in/file"] == OLD
        server.files["/in/file"] = DATA
        for some[0] in (0, 1, 65536, len(DATA) - 1):
            with pytest.raises(DataMoverError) as caught:
                await get(pool.at(Scope.SOURCE), "in/file")
            assert caught.value.retryable
    finally:
        await pool.close()
        await server.stop()


def _options(directory: Path) -> dict[str, Any]:
    password = directory / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    return {"password_file": str(password), "tls": "none"}
