"""The URLs and options of FTP destinations, and what they mean on a real server."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydantic import ValidationError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Ability
from datamover.protocols.ftp import FTP
from datamover.protocols.ftp.client.session import FtpSession
from datamover.registry.probe import probe
from tests.protocols.conformance import get, put
from tests.protocols.ftp import opened, pool_at
from tests.servers.certificates import Authority
from tests.servers.ftp import USER, FtpServer, Vsftpd


@pytest.fixture(scope="module")
def server() -> Iterator[FtpServer]:
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    directory.chmod(0o755)
    server = Vsftpd(directory)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://portal@h",
        "ftp://portal@h/",
        "ftp://portal@h/in/deep",
        "ftp://portal@h//srv/in",
        "ftps://portal@h:2121/in",
        "ftp://portal@[::1]/a%20b",
    ],
)
def test_urls(url: str) -> None:
    """A URL has a user, a host and a path."""
    FTP.check_url(url)
    assert FTP.user(url) == "portal"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/in",
        "ftp:///in",
        "ftp://portal:word@h/in",
        "ftp://portal@h/in/../out",
        "ftp://portal@h/%2E%2E",
        "ftp://portal@h/in?x=1",
        "ftp://portal@h/in#x",
        "ftp://portal@h:0/in",
        "ftp://portal@h:x/in",
        "ftp://portal@h/a%0D%0ADELE%20b",
        "ftp://portal@h/a%00",
    ],
)
def test_urls_refused(url: str) -> None:
    """What is no such URL is refused with what was expected, and a password is not repeated."""
    with pytest.raises(ValueError, match="expected ftp://") as caught:
        FTP.check_url(url)
    assert "word@" not in str(caught.value)


def test_roots() -> None:
    """The root that clients see is the path, wherever it begins."""
    assert FTP.root("ftp://portal@h") == "/"
    assert FTP.root("ftp://portal@h/in/") == "/in"
    assert FTP.root("ftp://portal@h//srv/in") == "/srv/in"
    assert FTP.root("ftp://portal@h/.hidden/a%20b") == "/.hidden/a b"


@pytest.mark.parametrize("options", [{"tls": "maybe"}, {"tls": True}, {"user": "x"}, {"demand": "none"}])
def test_options_refused(options: dict[str, Any]) -> None:
    """TLS is required or, in words, not there; nothing else is taken."""
    with pytest.raises(ValidationError):
        FTP.options.model_validate(options)


@pytest_twisted.ensureDeferred
async def test_where_a_path_begins(server: FtpServer) -> None:
    """One slash begins where the login begins, two in the server's root; a root that is missing is made."""
    base = f"ftp://{USER}@127.0.0.1:{server.port}"
    for url in (f"{base}/in/deep", f"{base}/{server.root}/in/deep"):
        pool = pool_at(url, server.options)
        try:
            await put(pool.at(Scope.DESTINATION), "file", url.encode(), replace=True)
            assert (server.root / "in/deep/file").read_bytes() == url.encode()
            assert await get(pool.at(Scope.SOURCE), "file") == (0, url.encode())
        finally:
            await pool.close()


@pytest_twisted.ensureDeferred
async def test_probed(server: FtpServer) -> None:
    """The test of a destination goes through, tells what the server does not do, and leaves nothing."""
    async with opened(server, "probed") as pool:
        told = await probe(pool, FTP.abilities, reactor)
        assert told["ok"], told
        assert [lack.ability for lack in pool.lacks] == [Ability.FREE_SPACE]
    assert list((server.root / "probed").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_wrong_password(server: FtpServer, tmp_path: Path) -> None:
    """A wrong password is told as such, and is in no message; one that cannot be read, too."""
    path = tmp_path / "password"
    path.write_text("guessed-word")
    path.chmod(0o600)
    async with opened(server, password_file=str(path)) as pool:
        with pytest.raises(errors.AuthenticationFailed) as caught:
            await pool.connect()
        assert "guessed-word" not in caught.value.full
        path.unlink()
        with pytest.raises(errors.AuthenticationFailed, match="password_file"):
            await pool.connect()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest_twisted.ensureDeferred
async def test_sessions_ended(server: FtpServer, tmp_path: Path, secure: bool) -> None:
    """Sessions that the server has ended, of which nobody has read yet, fail nothing: what comes next has new ones."""
    own: FtpServer | None = None
    if secure:
        server = own = Vsftpd(tmp_path, Authority(tmp_path), config="implicit_ssl=YES\n")
        own.start()
    url = server.url.replace("ftp://", "ftps://") if secure else server.url
    pool = pool_at(url, server.options)
    try:
        place = pool.at(Scope.DESTINATION)
        await put(place, "file", b"data", replace=True)
        await gatherResults([Deferred.fromCoroutine(place.inspect("file")) for _ in range(4)])
        idle = list(pool._sessions._idle)  # type: ignore[attr-defined]
        assert len(idle) > 1
        server.disconnect()
        _await_ends(idle)
        assert all(session.control.failure is None for session in idle)
        assert await get(pool.at(Scope.SOURCE), "file") == (0, b"data")
    finally:
        await pool.close()
        if own is not None:
            own.stop()


def _await_ends(sessions: list[FtpSession]) -> None:
    """Wait until the server has ended all; the reactor stands still, so that it does not hear of that."""
    while not all(session.control.spoken for session in sessions):
        time.sleep(0.01)
