"""TLS to FTP servers: from the first byte, certificates, and what is not to be believed of an end."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from datamover import errors
from datamover.errors import Scope
from tests.protocols.conformance import MIB, content, get, put
from tests.protocols.ftp import opened, pool_at
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, Vsftpd

DATA = content(MIB + 1)


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def started(directory: Path, authority: Authority | None, config: str = "") -> FtpServer:
    server = Vsftpd(directory, authority, config=config)
    server.start()
    return server


@pytest_twisted.ensureDeferred
async def test_from_the_first_byte(directory: Path) -> None:
    """``ftps://`` is TLS before the greeting, on the data connections too."""
    server = started(directory, Authority(directory), "implicit_ssl=YES\n")
    pool = pool_at(server.url.replace("ftp://", "ftps://"), server.options)
    try:
        await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)
    finally:
        await pool.close()
        server.stop()


@pytest.mark.parametrize("scheme", ["ftp", "ftps"])
@pytest_twisted.ensureDeferred
async def test_unknown_authority(directory: Path, scheme: str) -> None:
    """A certificate of an authority that is not trusted ends the connection before the login."""
    config = "implicit_ssl=YES\n" if scheme == "ftps" else ""
    server = started(directory, Authority(directory), config)
    other = Authority(directory, "other")
    pool = pool_at(server.url.replace("ftp://", f"{scheme}://"), {**server.options, "ca_file": str(other.file)})
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await pool.connect()
        assert "authority" in caught.value.full
        assert caught.value.scope is Scope.DESTINATION
    finally:
        await pool.close()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_certificate_of_ones_own(directory: Path) -> None:
    """A server that asks for a certificate is shown one, on control and data connections; without one, it says so."""
    authority = Authority(directory)
    config = f"require_cert=YES\nca_certs_file={authority.file}\n"
    server = started(directory, authority, config)
    certificate, key = authority.issue(name="portal")
    try:
        async with opened(server, certificate_file=str(certificate), key_file=str(key)) as pool:
            await put(pool.at(Scope.DESTINATION), "file", DATA)
            assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)
        async with opened(server) as pool:
            with pytest.raises(errors.DataMoverError) as caught:
                await pool.connect()
            assert caught.value.scope is Scope.DESTINATION
    finally:
        server.stop()


@pytest_twisted.ensureDeferred
async def test_tls_that_nobody_has(directory: Path) -> None:
    """A server without TLS is refused by default, before the login."""
    server = started(directory, None)
    pool = pool_at(server.url, {"password_file": str(server.password_file)})
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await pool.connect()
        assert "has no TLS" in caught.value.full
    finally:
        await pool.close()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_tls_that_is_required(directory: Path) -> None:
    """A server that lets nobody log in without TLS says so where there is to be none."""
    server = started(directory, Authority(directory))
    pool = pool_at(server.url, {"password_file": str(server.password_file), "tls": "none"})
    try:
        with pytest.raises(errors.AuthenticationFailed):
            await pool.connect()
    finally:
        await pool.close()
        server.stop()
