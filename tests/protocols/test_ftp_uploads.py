"""No upload over FTP is cut short: servers lose bytes of clients that end the connection too early."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from datamover.errors import Scope
from datamover.protocols.upload import UploadKey
from tests.protocols.conformance import content, write
from tests.protocols.ftp import opened
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, ProftpdFtp, Pyftpdlib, Vsftpd

SIZES = (0, 1, 16384, 16385, 200_000, 2**20 + 1, 3_000_000)
"""Around what TLS records, sockets and servers take at once; the largest are more than a socket holds."""
RATE = 4_000_000
"""Bytes a second that a server reads: the client has long sent its last byte when the server gets it."""
SLOW = {
    Vsftpd: f"local_max_rate={RATE}\n",
    ProftpdFtp: f"TransferRate STOR {RATE // 1000}\n",
    Pyftpdlib: str(RATE),
}


@pytest.fixture(
    params=[(made, secure) for made in SLOW for secure in (False, True)],
    ids=lambda each: f"{each[0].__name__}{'-tls' * each[1]}",
)
def server(request: pytest.FixtureRequest) -> Iterator[FtpServer]:
    """Each server, which reads slowly, with and without TLS."""
    made, secure = request.param
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    directory.chmod(0o755)
    server = made(directory, Authority(directory) if secure else None, config=SLOW[made])
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest_twisted.ensureDeferred
async def test_every_byte_arrives(server: FtpServer) -> None:
    """Files of many sizes arrive whole at a server that reads slowly, by a stream and by one call."""
    async with opened(server) as pool:
        place = pool.at(Scope.DESTINATION)

        async def stream(size: int) -> None:
            upload = place.begin(f"stream-{size}", UploadKey("1", f"a{size}"), size=size)
            assert (await write(upload, content(size))).offset == size
            await upload.commit(replace=False)

        async def store(size: int) -> None:
            upload = place.begin(f"store-{size}", UploadKey("1", f"b{size}"), size=size)
            await upload.store(content(size), replace=False, commit=lambda: None)

        await gatherResults([Deferred.fromCoroutine(way(size)) for size in SIZES for way in (stream, store)])
    for size in SIZES:
        for way in ("stream", "store"):
            assert (server.root / f"{way}-{size}").read_bytes() == content(size), (way, size)
