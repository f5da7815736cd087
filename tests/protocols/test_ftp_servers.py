"""Real FTP servers that are set up unlike others: a file arrives whole all the same, or a sentence says why not."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.base import Ability
from datamover.protocols.place import DestinationPool
from datamover.protocols.upload import Saved, Upload
from tests.protocols.conformance import KEY, content, get, put, write
from tests.protocols.ftp import opened, pool_at
from tests.servers.certificates import Authority
from tests.servers.ftp import (
    USER,
    FtpServer,
    ProftpdByDefault,
    ProftpdFtp,
    Pyftpdlib,
    RcloneFtp,
    ReadOnlyFtp,
    RoomyFtp,
    Vsftpd,
)

DATA = content(300_000)
MIB = 2**20


@contextmanager
def serving(made: type[FtpServer], config: str = "", *, secure: bool = False) -> Iterator[FtpServer]:
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    directory.chmod(0o755)
    server = made(directory, Authority(directory) if secure else None, config=config)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


async def story(server: FtpServer, pool: DestinationPool) -> None:
    """Small and large, into a new directory and over what is there, and back."""
    place = pool.at(Scope.DESTINATION)
    (server.root / "old").write_bytes(b"old")
    await put(place, "a/b/new", DATA)
    assert await get(pool.at(Scope.SOURCE), "a/b/new") == (0, DATA)
    with pytest.raises(errors.DestinationExists):
        await put(place, "old", DATA)
    assert (server.root / "old").read_bytes() == b"old"
    await put(place, "old", DATA, replace=True)
    assert (server.root / "old").read_bytes() == DATA
    small = place.begin("a/b/small", KEY)
    await small.store(b"small", replace=False, commit=lambda: None)
    assert await get(pool.at(Scope.SOURCE), "a/b/small") == (0, b"small")
    assert await place.inspect("a/none") is None
    assert not list(server.root.rglob(".datamover-*"))


SETTINGS = [
    *[
        (Vsftpd, config, False)
        for config in (
            "cmds_denied=EPSV\n",
            "cmds_denied=FEAT,OPTS,NOOP\n",
            "cmds_denied=PWD\n",
            "cmds_denied=REST\n",
            "cmds_denied=SIZE,MDTM,STAT,SITE,MFMT\n",
            "delete_failed_uploads=YES\n",
            "dirlist_enable=NO\n",
            "ascii_upload_enable=YES\nascii_download_enable=YES\n",
        )
    ],
    *[
        (ProftpdFtp, config, False)
        for config in (
            "FactsAdvertise off\n",
            "<Limit LIST NLST MLSD STAT>\nDenyAll\n</Limit>\n",
            "<Limit SITE_CHMOD MFMT>\nDenyAll\n</Limit>\n",
        )
    ],
    (ProftpdByDefault, "HiddenStores on\n", False),
    (ProftpdFtp, "TLSProtocol TLSv1.2\n", True),
    (ProftpdFtp, "TLSProtocol TLSv1.3\n", True),
]


@pytest.mark.parametrize(
    ("made", "config", "secure"), SETTINGS, ids=[f"{made.__name__} {config.strip()}" for made, config, _ in SETTINGS]
)
@pytest_twisted.ensureDeferred
async def test_odd_settings(made: type[FtpServer], config: str, secure: bool) -> None:
    """Whatever a server does without, or wants, files come and go, and none is replaced that may not be."""
    with serving(made, config, secure=secure) as server:
        async with opened(server) as pool:
            await story(server, pool)


@pytest_twisted.ensureDeferred
async def test_internet_protocol_6() -> None:
    """A server is reached at an address of IPv6, data connections too."""
    with serving(Vsftpd, "listen=NO\nlisten_ipv6=YES\n") as server:
        pool = pool_at(f"ftp://{USER}@[::1]:{server.port}/{server.root}", server.options)
        try:
            await story(server, pool)
        finally:
            await pool.close()


REFUSING: list[tuple[type[FtpServer], str, type[DataMoverError], str]] = [
    (Vsftpd, "write_enable=NO\n", errors.DestinationForbidden, "may not be written"),
    (Vsftpd, "pasv_enable=NO\n", errors.ServerError, "no passive data connections"),
    (Vsftpd, "cmds_denied=RNFR,RNTO\n", errors.DestinationForbidden, "may not be written"),
    (ProftpdFtp, "<Limit WRITE>\nDenyAll\n</Limit>\n", errors.DestinationForbidden, "may not be written"),
    (ReadOnlyFtp, "", errors.DestinationForbidden, "may not be written"),
    (RcloneFtp, "--read-only", errors.DestinationForbidden, "may not be written"),
]


@pytest.mark.parametrize(
    ("made", "config", "kind", "words"),
    REFUSING,
    ids=[f"{made.__name__} {config.strip()}" for made, config, _, _ in REFUSING],
)
@pytest_twisted.ensureDeferred
async def test_refusing(made: type[FtpServer], config: str, kind: type[DataMoverError], words: str) -> None:
    """A server that takes no files is told as such, not to be tried again, and has nothing of them."""
    with serving(made, config) as server:
        async with opened(server) as pool:
            place = pool.at(Scope.DESTINATION)
            for path in ("file", "directory/file"):
                upload = place.begin(path, KEY)
                with pytest.raises(kind, match=words) as caught:
                    await _stored(upload, DATA)
                assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, False)
                await upload.close()
                await upload.abort()
        assert not [path for path in server.root.rglob("*") if path.is_file()]


@pytest_twisted.ensureDeferred
async def test_drop_box() -> None:
    """A server that neither lists nor sends gets files; that they cannot be read is said of reading alone."""
    with serving(Vsftpd, "dirlist_enable=NO\ndownload_enable=NO\n") as server:
        async with opened(server) as pool:
            await put(pool.at(Scope.DESTINATION), "in/file", DATA)
            assert (server.root / "in/file").read_bytes() == DATA
            with pytest.raises(errors.SourceForbidden):
                await get(pool.at(Scope.SOURCE), "in/file")


@pytest.mark.parametrize(
    ("made", "config"),
    [
        (Vsftpd, "max_clients=1\n"),
        (Vsftpd, "max_per_ip=1\n"),
        (ProftpdFtp, "MaxClients 1\n"),
        (ProftpdFtp, "MaxClientsPerUser 1\n"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_one_login(made: type[FtpServer], config: str) -> None:
    """Where a server takes one login alone, a second client is told to wait, and not that it may not enter."""
    with serving(made, config) as server:
        async with opened(server) as pool, opened(server) as other:
            await _connected(pool)
            await story(server, pool)
            with pytest.raises(errors.RateLimited):
                await other.connect()


async def _connected(pool: DestinationPool) -> None:
    """Log in; a server counts those who only looked whether it is there for a moment."""
    for _ in range(100):
        try:
            await pool.connect()
        except errors.RateLimited:
            continue
        return


NAMES = [
    *(" lead", "trail ", "  two", " ", "-dash", "-a", "-rf *", "a*b", "a?b", "[ab]", "{a,b}", "a[1].txt", "~", "~root"),
    *('a"b', "a'b", "a\\b", "a;type=i", "a -> b", "a%20b", "..a", "...", "$HOME", "`id`", "a:b", "a" * 255),
    *("é", "e\u0301", "日本", "😀", "a\u2028b", "\ufeffb"),
]
BYTES = ["tab\tx", "a\x01b", "\x7f", "\udcff", "\udce9x"]
"""Such as servers may take that see names as bytes."""


@pytest.mark.parametrize(
    ("made", "names"), [(Vsftpd, NAMES + BYTES), (ProftpdFtp, NAMES + BYTES), (Pyftpdlib, NAMES), (RcloneFtp, NAMES)]
)
@pytest_twisted.ensureDeferred
async def test_names(made: type[FtpServer], names: list[str]) -> None:
    """A file has the name that was asked for, is found and listed under it, replaced, read and removed."""
    with serving(made) as server:
        async with opened(server) as pool:
            place = pool.at(Scope.DESTINATION)
            for name in names:
                path = f"in [1]/{name}"
                upload = place.begin(path, KEY)
                await upload.store(b"first", replace=False, commit=lambda: None)
                assert os.listdir(os.fsencode(server.root / "in [1]")) == [os.fsencode(name)]
                assert await place.list("in [1]") == [name]
                await put(place, path, name.encode(errors="surrogateescape"), replace=True)
                assert (await get(pool.at(Scope.SOURCE), path))[1] == os.fsencode(name)
                await place.remove(path)
                assert await place.inspect(path) is None


@pytest_twisted.ensureDeferred
async def test_names_that_are_no_utf8() -> None:
    """pyftpdlib exchanges bytes that are not UTF-8, and says OK: a name with some is refused, and nothing is left."""
    with serving(Pyftpdlib) as server:
        async with opened(server) as pool:
            with pytest.raises(errors.DestinationInvalid, match="keeps otherwise"):
                await put(pool.at(Scope.DESTINATION), "in/\udce9x", b"data")
            assert os.listdir(server.root / "in") == []


BAD = {
    "directory": "is a directory where a file is needed",
    "File/below": "leads through a file where a directory is needed",
    "File/far/below": "leads through a file where a directory is needed",
    "n" * 1025: "a name that the server does not take",
    "n" * 1025 + "/file": "a name that the server does not take",
    "new\nline": "holds a line break or NUL",
}
"""Path -> what is wrong with it."""


@pytest.mark.parametrize("made", [Vsftpd, ProftpdFtp, Pyftpdlib])
@pytest_twisted.ensureDeferred
async def test_bad_paths(made: type[FtpServer]) -> None:
    """What cannot be a file's path is said to be at fault by either way of writing, and leaves nothing of it."""
    with serving(made) as server:
        (server.root / "directory").mkdir()
        async with opened(server) as pool, opened(server, "File") as below:
            # Names that differ by case, or would without their escapes, are different files.
            names = ["File", "file", "a%2Fb", "a%2fb"]
            for name in names:
                await put(pool.at(Scope.DESTINATION), name, name.encode())
            for place, path, words in [
                *((pool.at(Scope.DESTINATION), path, words) for path, words in BAD.items()),
                (below.at(Scope.DESTINATION), "file", "its root leads through a file"),
            ]:
                upload = place.begin(path, KEY)
                for way in (_stored(upload, DATA), upload.store(DATA, replace=True, commit=lambda: None)):
                    with pytest.raises(errors.DestinationInvalid, match=words):
                        await way
                    await upload.close()
                    await upload.abort()
            for name in names:
                assert await get(pool.at(Scope.SOURCE), name) == (0, name.encode())
        assert sorted(os.listdir(server.root)) == sorted([*names, "directory"])


@pytest_twisted.ensureDeferred
async def test_name_that_a_server_does_not_take() -> None:
    """A name that the server does not take is said to be at fault, and not a permission."""
    with serving(ProftpdFtp) as server:
        async with opened(server) as pool:
            with pytest.raises(errors.DestinationInvalid, match="a name that the server does not take"):
                await put(pool.at(Scope.DESTINATION), "a*b/file", DATA)


FULL: list[tuple[type[FtpServer], type[DataMoverError], type[DataMoverError]]] = [
    (Vsftpd, errors.NoSpace, errors.NoSpace),
    (ProftpdFtp, errors.NoSpace, errors.NoSpace),
    # It never does: "426 None; transfer aborted.", or nothing at all.
    (Pyftpdlib, errors.ConnectionLost, errors.ConnectionLost),
    (RoomyFtp, errors.NoSpace, errors.NoSpace),
    (RcloneFtp, errors.NoSpace, errors.ServerError),  # Now and then "450 … io: read/write on closed pipe".
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize(("made", "kind", "other"), FULL, ids=[made.__name__ for made, *_ in FULL])
@pytest_twisted.ensureDeferred
async def test_full_disk(made: type[FtpServer], kind: type[DataMoverError], other: type[DataMoverError]) -> None:
    """A disk that is full is told as such where the server says so, or its room does; nothing of the file stays.

    The same holds of a file that is continued: it is not said to be what cannot be continued.
    """
    with serving(made) as server, _small(server.root):
        async with opened(server) as pool:
            place = pool.at(Scope.DESTINATION)
            upload = place.begin("file", KEY)
            with pytest.raises((kind, other)) as caught:
                await _stored(upload, content(8 * MIB))
            assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, True)
            await upload.close()
            assert upload.token is not None
            if made is not RcloneFtp:  # It removes what it could not write.
                with pytest.raises((kind, other)) as caught:
                    await _stored(place.resume("file", Saved(MIB, upload.token)), content(8 * MIB)[MIB:])
                assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, True)
                assert Ability.RESUME not in place.lacks
            await upload.abort()
            await put(place, "other", DATA)
        assert os.listdir(server.root) == ["other"]


@contextmanager
def _small(directory: Path) -> Iterator[None]:
    """Have a disk of 4 MiB at a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


async def _stored(upload: Upload, data: bytes) -> None:
    await write(upload, data)
    await upload.commit(replace=False)
