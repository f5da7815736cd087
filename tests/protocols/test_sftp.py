"""SFTP's own ways with files and names, beyond what every protocol must do."""

import hashlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.conch.ssh.filetransfer import FX_PERMISSION_DENIED, SFTPError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Ability
from datamover.protocols.place import DestinationPool
from tests.protocols.part_files import give_name
from tests.protocols.sftp import (
    LARGE,
    MIB,
    PART,
    drain,
    lacking,
    noise,
    opened,
    reading,
    send,
    sha256,
    writing,
)
from tests.servers.conch import PASSWORD, ConchServer
from tests.servers.sshd import Sshd


@asynccontextmanager
async def conch_server(directory: Path, sshd: Sshd) -> AsyncIterator[tuple[ConchServer, DestinationPool]]:
    """Give a server without extensions, and a pool for it that is impatient."""
    password = directory / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    server = ConchServer(reactor, directory, sshd.directory / "host_ed25519")
    try:
        async with opened(server, password_file=password, idle_timeout=0.5) as pool:
            yield server, pool
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_large_there_and_back(sshd: Sshd) -> None:
    """50 MiB arrive whole in both directions."""
    data = noise(LARGE)
    async with opened(sshd) as pool:
        assert await send(writing(pool), PART, data) == LARGE
        await give_name(writing(pool), PART, "large", replace=False)
        digest = hashlib.sha256(data).hexdigest()
        assert hashlib.sha256((sshd.root / "large").read_bytes()).hexdigest() == digest
        assert await sha256(reading(pool), "large") == digest


@pytest_twisted.ensureDeferred
async def test_changed_while_read(sshd: Sshd) -> None:
    """A file that grows, or is written to, under its reader is SOURCE_CHANGED before its last byte is handed over."""
    path = sshd.root / "file"
    async with opened(sshd) as pool:
        for change in (b"more at the end", None):
            path.write_bytes(noise(20 * MIB))
            os.utime(path, (1_000_000_000, 1_000_000_000))
            source = await reading(pool).origin("file").open()
            await source.read()
            with path.open("ab") as file:
                file.write(change or b"")
            os.utime(path, (1_000_000_001, 1_000_000_001))
            with pytest.raises(errors.SourceChanged):
                await drain(source)
            await source.close()


@pytest_twisted.ensureDeferred
async def test_target_is_a_link(sshd: Sshd) -> None:
    """A symbolic link in the target's place is replaced itself, wherever it leads."""
    outside = sshd.directory / "outside"
    outside.write_bytes(b"kept")
    (sshd.root / "target").symlink_to(outside)
    async with opened(sshd) as pool:
        await send(writing(pool), PART, b"new")
        with pytest.raises(errors.DestinationExists):
            await give_name(writing(pool), PART, "target", replace=False)
        await give_name(writing(pool), PART, "target", replace=True)
    assert (sshd.root / "target").read_bytes() == b"new"
    assert not (sshd.root / "target").is_symlink()
    assert outside.read_bytes() == b"kept"


@pytest_twisted.ensureDeferred
async def test_part_is_a_link(sshd: Sshd) -> None:
    """A symbolic link in the part file's place is not written through."""
    outside = sshd.directory / "outside"
    outside.write_bytes(b"kept")
    (sshd.root / PART).symlink_to(outside)
    async with opened(sshd) as pool:
        with pytest.raises(errors.DestinationInvalid, match="symbolic link"):
            await writing(pool).open_part(PART, "file")
    assert outside.read_bytes() == b"kept"


@pytest_twisted.ensureDeferred
async def test_missing_root(sshd: Sshd) -> None:
    """A root that is not there is made, with what is above it; until then nothing is in it, and the room is told."""
    async with opened(sshd, url=f"{sshd.url}/new/root") as pool:
        assert await writing(pool).inspect("file") is None
        assert await writing(pool).list("") == []
        assert await pool.at(Scope.DESTINATION).free()
        await send(writing(pool), "dir/file", b"data")
    assert (sshd.root / "new/root/dir/file").read_bytes() == b"data"
    assert stat.S_IMODE((sshd.root / "new/root").stat().st_mode) == 0o755


@pytest_twisted.ensureDeferred
async def test_root_is_a_link(sshd: Sshd) -> None:
    """A root that is itself a symbolic link is the directory it leads to."""
    (sshd.root / "real").mkdir()
    (sshd.directory / "alias").symlink_to(sshd.root / "real")
    async with opened(sshd, url=sshd.url.removesuffix("root") + "alias") as pool:
        await send(writing(pool), "file", b"data")
        assert await sha256(reading(pool), "file") == hashlib.sha256(b"data").hexdigest()
    assert (sshd.root / "real/file").read_bytes() == b"data"


@pytest_twisted.ensureDeferred
async def test_directory_taken_away(sshd: Sshd) -> None:
    """A directory that another removed a moment after it was used is made again."""
    async with opened(sshd) as pool:
        await send(writing(pool), "dir/first", b"1")
        (sshd.root / "dir/first").unlink()
        (sshd.root / "dir").rmdir()
        await send(writing(pool), "dir/second", b"2")
    assert (sshd.root / "dir/second").read_bytes() == b"2"


@pytest_twisted.ensureDeferred
async def test_directory_taken_from_many(sshd: Sshd) -> None:
    """Also for many small files that are under way there at once."""
    names = [f"{number}.bin" for number in range(60)]
    async with opened(sshd) as pool:
        place = writing(pool)

        async def put(name: str) -> None:
            await place.put_part(f"dir/.{name}", f"dir/{name}", b"2", modified=None, replace=False, commit=lambda: None)

        for _ in range(2):
            await gatherResults([Deferred.fromCoroutine(put(name)) for name in names])
            assert sorted(os.listdir(sshd.root / "dir")) == sorted(names)
            shutil.rmtree(sshd.root / "dir")


@pytest_twisted.ensureDeferred
async def test_names_that_are_not_utf8(sshd: Sshd) -> None:
    """A name whose bytes are not UTF-8 is listed, read and removed as it is."""
    name = b"caf\xe9.csv"
    (sshd.root / os.fsdecode(name)).write_bytes(b"data")
    async with opened(sshd) as pool:
        [listed] = await reading(pool).list("")
        assert listed.encode("utf-8", "surrogateescape") == name
        assert await sha256(reading(pool), listed) == hashlib.sha256(b"data").hexdigest()
        await writing(pool).remove(listed)
    assert os.listdir(sshd.root) == []


@pytest_twisted.ensureDeferred
async def test_not_a_regular_file(sshd: Sshd) -> None:
    """A pipe is neither read nor written, nor does it hold anybody up."""
    os.mkfifo(sshd.root / "pipe")
    async with opened(sshd) as pool:
        looked = await reading(pool).inspect("pipe")
        assert looked is not None
        assert (looked.size, looked.identity, looked.directory) == (None, None, False)
        with pytest.raises(errors.SourceForbidden, match="not a regular file"):
            await reading(pool).origin("pipe").open()
        with pytest.raises(errors.DestinationInvalid, match="not a regular file"):
            await writing(pool).open_part("pipe", "file")


@pytest_twisted.ensureDeferred
async def test_without_extensions(sshd: Sshd, tmp_path: Path) -> None:
    """A server with nothing but SFTP 3, that reads short, still moves files; what it cannot do it is not made to."""
    data = noise(MIB)
    async with conch_server(tmp_path, sshd) as (server, pool):
        await send(writing(pool), PART, data)
        await give_name(writing(pool), PART, "dir/file", replace=True)
        assert (server.root / "dir/file").read_bytes() == data
        assert stat.S_IMODE((server.root / "dir/file").stat().st_mode) == 0o644
        assert await sha256(reading(pool), "dir/file") == hashlib.sha256(data).hexdigest()
        assert await pool.at(Scope.DESTINATION).free() is None
        await send(writing(pool), PART, b"other")
        with pytest.raises(errors.DestinationExists):
            await give_name(writing(pool), PART, "dir/file", replace=False)
        await give_name(writing(pool), PART, "dir/file", replace=True)
        assert (server.root / "dir/file").read_bytes() == b"other"
        assert os.listdir(server.root) == ["dir"]
        assert os.listdir(server.root / "dir") == ["file"]
        assert Ability.REPLACE_ATOMICALLY in lacking(pool)


@pytest_twisted.ensureDeferred
async def test_openssh_without_posix_rename(open_directory: Path) -> None:
    """OpenSSH told not to rename onto files has them replaced, and is not said to do so in one step."""
    sshd = Sshd(open_directory, config="Subsystem sftp internal-sftp -P posix-rename")
    sshd.start()
    try:
        async with opened(sshd) as pool:
            for data in (b"first", b"second"):
                await send(writing(pool), PART, data)
                await give_name(writing(pool), PART, "file", replace=True)
                assert (sshd.root / "file").read_bytes() == data
            assert os.listdir(sshd.root) == ["file"]
            assert Ability.REPLACE_ATOMICALLY in lacking(pool)
    finally:
        sshd.stop()


@pytest_twisted.ensureDeferred
async def test_what_openssh_can(sshd: Sshd) -> None:
    """A server is said to replace in one step once it has been asked, and not before."""
    async with opened(sshd) as pool:
        assert Ability.REPLACE_ATOMICALLY in lacking(pool)
        await pool.connect()
        assert not lacking(pool)


class Renames:
    """Answers the first renames, and not the one that would give the part file its name."""

    def __init__(self, server: ConchServer, answer: Callable[[], Deferred[None]]) -> None:
        self._name = os.fsencode(PART)
        self._answer = answer
        server.at_rename = self

    def __call__(self, old: bytes, new: bytes) -> Deferred[None] | None:
        return self._answer() if os.path.basename(old) == self._name else None


def refusal() -> Deferred[None]:
    return fail(SFTPError(FX_PERMISSION_DENIED, "not now"))  # type: ignore[no-untyped-call]


@pytest_twisted.ensureDeferred
async def test_refused_between_renames(sshd: Sshd, tmp_path: Path) -> None:
    """Where the new file may not take the name that the old one was moved from, the old one has it again."""
    async with conch_server(tmp_path, sshd) as (server, pool):
        (server.root / "file").write_bytes(b"old")
        await send(writing(pool), PART, b"new")
        Renames(server, refusal)
        with pytest.raises(errors.DestinationForbidden):
            await give_name(writing(pool), PART, "file", replace=True)
        assert (server.root / "file").read_bytes() == b"old"
        assert sorted(os.listdir(server.root)) == [PART, "file"]


@pytest.mark.parametrize("after", ["place", "remove", "sweep"])
@pytest_twisted.ensureDeferred
async def test_cut_off_between_renames(sshd: Sshd, tmp_path: Path, after: str) -> None:
    """An old file that was set aside when everything broke off is put back by whatever comes next."""
    async with conch_server(tmp_path, sshd) as (server, pool):
        (server.root / "file").write_bytes(b"old")
        await send(writing(pool), PART, b"new")

        def cut() -> Deferred[None]:
            server.cut()
            return Deferred()

        Renames(server, cut)
        with pytest.raises(errors.ConnectionLost):
            await give_name(writing(pool), PART, "file", replace=True)
        assert not (server.root / "file").exists()
        server.at_rename = lambda old, new: None

        if after == "place":
            await give_name(writing(pool), PART, "file", replace=True)
        elif after == "remove":
            await writing(pool).remove(PART)
        else:
            for name in await writing(pool).list(""):
                if name.startswith(PART):
                    await writing(pool).remove(name)
        assert (server.root / "file").read_bytes() == (b"new" if after == "place" else b"old")
        assert os.listdir(server.root) == ["file"]


@pytest_twisted.ensureDeferred
async def test_unanswered_read(sshd: Sshd, tmp_path: Path) -> None:
    """A read that is never answered is STALLED, while other answers come."""
    async with conch_server(tmp_path, sshd) as (server, pool):
        (server.root / "file").write_bytes(b"data")
        server.mute = True
        source = await reading(pool).origin("file").open()
        with pytest.raises(errors.Stalled) as caught:
            await source.read()
        await source.close()
        assert caught.value.scope is Scope.SOURCE
