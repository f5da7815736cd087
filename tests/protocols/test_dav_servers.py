"""WebDAV logins and chunks, with real servers and one that speaks Nextcloud's protocol."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Ability, Origin
from datamover.protocols.upload import UploadKey
from datamover.registry.probe import probe
from tests.protocols.conformance import KEY, MIB, arrive, content, get, put, read, write
from tests.protocols.dav import opened
from tests.servers.certificates import Authority
from tests.servers.cloud import LEAST, OTHERS, Cloud
from tests.servers.dav import PASSWORD, Apache, DavServer, Lighttpd, NginxDav, WsgiDav, give, running

LARGE = content(12 * MIB + 1)


@pytest.mark.parametrize(
    "make",
    [lambda directory: Apache(directory, digests=True), lambda directory: WsgiDav(directory, digests=True)],
    ids=["Apache", "wsgidav"],
)
@pytest_twisted.ensureDeferred
async def test_digest(make: Callable[[Path], DavServer], tmp_path: Path) -> None:
    """If a server asks for Digest, the password is not sent; a wrong one raises AuthenticationFailed."""
    with running(make) as server:
        async with opened(server) as pool:
            await put(pool.at(Scope.DESTINATION), "d/f", LARGE)
            assert await get(pool.at(Scope.SOURCE), "d/f") == (0, LARGE)
        wrong = tmp_path / "wrong"
        wrong.write_text(f"{PASSWORD}!")
        wrong.chmod(0o600)
        async with opened(server, password_file=str(wrong)) as pool:
            with pytest.raises(errors.AuthenticationFailed, match="check username and password_file") as caught:
                await pool.connect()
            assert PASSWORD not in caught.value.full


@pytest_twisted.ensureDeferred
async def test_a_nonce_that_expires() -> None:
    """A server whose nonces expire after a second gets new logins, and no file is sent twice."""
    with running(lambda directory: Apache(directory, digests=True, config="AuthDigestNonceLifetime 1")) as server:
        async with opened(server) as pool:
            place = pool.at(Scope.DESTINATION)
            upload = place.begin("f", KEY, size=len(LARGE))
            await upload.open()
            await upload.write(LARGE[:MIB])
            await deferLater(reactor, 1.2)  # By then the nonce has expired.
            await upload.write(LARGE[MIB:])
            assert (await upload.finish()).offset == len(LARGE)
            await upload.commit(replace=False)
            assert (server.root / "f").read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_wrong_logins(tmp_path: Path) -> None:
    """A wrong password, a missing file and a missing login each have an error of their own."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    with running(NginxDav) as server:
        async with opened(server, password_file=str(wrong)) as pool:
            told = await probe(pool, frozenset(Ability), reactor)
            assert (told["steps"][-1]["step"], told["steps"][-1]["error"]["code"]) == (
                "authenticate",
                "AUTHENTICATION_FAILED",
            )
            wrong.unlink()
            with pytest.raises(errors.AuthenticationFailed, match=r"password_file .* cannot be read: No such file"):
                await pool.connect()


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    """Over TLS only certificates of the authority in ca_file are accepted; a refusal comes before the login is sent."""
    authority = Authority(tmp_path)
    with running(lambda directory: Apache(directory, authority=authority)) as server:
        async with opened(server, ca_file=str(authority.file)) as pool:
            await put(pool.at(Scope.DESTINATION), "f", LARGE)
            assert await get(pool.at(Scope.SOURCE), "f") == (0, LARGE)
        async with opened(server) as pool:
            with pytest.raises(errors.TLSFailed) as caught:
                await pool.connect()
            assert "name the authority's certificate in [destinations.place] ca_file" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_probed() -> None:
    """A test of a destination leaves nothing behind, and returns what the server lacks."""
    with running(NginxDav) as server:
        async with opened(server) as pool:
            told = await probe(pool, frozenset({Ability.WRITE}), reactor)
            assert told["ok"], told
            lacks = {lack.ability for lack in pool.lacks}
            assert lacks == {Ability.RESUME, Ability.SET_MODIFIED, Ability.FREE_SPACE}
            assert list(server.root.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_server_with_a_limit() -> None:
    """A server that refuses a file as too large is sent little of it, and stores nothing."""
    with running(lambda directory: NginxDav(directory, config="client_max_body_size 1m;")) as server:
        async with opened(server) as pool:
            with pytest.raises(errors.DestinationInvalid, match="is larger than the server takes"):
                await arrive(pool.at(Scope.DESTINATION), "f", LARGE)
            await put(pool.at(Scope.DESTINATION), "small", b"data")
        assert [path.name for path in server.root.iterdir()] == ["small"]


READ_ONLY = [
    (NginxDav, "limit_except GET PROPFIND OPTIONS { deny all; }", errors.DestinationForbidden),
    (Lighttpd, 'webdav.is-readonly := "enable"', errors.DestinationForbidden),
]


@pytest.mark.parametrize(("made", "config", "kind"), READ_ONLY)
@pytest_twisted.ensureDeferred
async def test_read_only(made: type[DavServer], config: str, kind: type[errors.DataMoverError]) -> None:
    """A read-only collection is read; writing raises an error that says so."""
    with running(lambda directory: made(directory, config=config)) as server:
        (server.root / "f").write_bytes(b"data")
        give(server.root / "f")
        async with opened(server) as pool:
            assert await get(pool.at(Scope.SOURCE), "f") == (0, b"data")
            for name in ("new", "f"):
                with pytest.raises(kind):
                    await put(pool.at(Scope.DESTINATION), name, b"new", replace=True)
            with pytest.raises(kind):
                await pool.at(Scope.DESTINATION).remove("f")
        assert [path.read_bytes() for path in server.root.iterdir()] == [b"data"]


FULL: list[tuple[type[DavServer], type[errors.DataMoverError]]] = [
    (Apache, errors.NoSpace),
    # nginx answers 500, and leaves a partial copy.
    (NginxDav, errors.ServerError),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize(("made", "kind"), FULL)
@pytest_twisted.ensureDeferred
async def test_full_disk(made: type[DavServer], kind: type[errors.DataMoverError]) -> None:
    """A full disk raises NoSpace if the server says so, and nothing of the file stays."""
    with running(made) as server, small(server.root):
        give(server.root)
        async with opened(server) as pool:
            place = pool.at(Scope.DESTINATION)
            upload = place.begin("file", KEY, size=len(LARGE))
            with pytest.raises(kind) as caught:
                await write(upload, LARGE)
            assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, True)
            await upload.abort()
            await put(place, "other", b"data")
        assert os.listdir(server.root) == ["other"]


@pytest_twisted.ensureDeferred
async def test_no_collection() -> None:
    """A root whose parent directory is missing is an error; the directories above it are not made."""
    with running(Apache) as server:
        async with opened(server, "none/such") as pool:
            with pytest.raises(errors.DestinationInvalid, match="and neither does the directory above it; make that"):
                await put(pool.at(Scope.DESTINATION), "f", b"data")
        assert list(server.root.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_odd_names() -> None:
    """Names that look like separators are names, and two that differ by case are two."""
    with running(Apache) as server:
        async with opened(server) as pool:
            place = pool.at(Scope.DESTINATION)
            names = ["a%2Fb", "..%2Fc", "%2e%2e", "...", "Case", "case", "a\\b"]
            for name in names:
                await put(place, f"d/{name}", name.encode())
            assert await place.list("d") == sorted(names)
            assert sorted(os.listdir(server.root / "d")) == sorted(names)
            for name in names:
                assert await get(pool.at(Scope.SOURCE), f"d/{name}") == (0, name.encode())
            long = "/".join(["n" * 204] * 5)
            assert len(long) == 1024
            await put(place, f"{long}x", b"data")
            assert await get(pool.at(Scope.SOURCE), f"{long}x") == (0, b"data")
            upload, _ = await arrive(place, "n" * 1025, b"data")
            with pytest.raises(errors.DestinationInvalid, match="a name that is too long"):
                await upload.commit(replace=False)
            await upload.abort()
        assert sorted(os.listdir(server.root)) == ["d", "n" * 204]


@contextmanager
def small(directory: Path) -> Iterator[None]:
    """Mount a disk of 4 MiB at a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


# Chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "mute", "impatient", "overtaken", "parts"])
@pytest_twisted.ensureDeferred
async def test_chunks(kind: str) -> None:
    """A large file is sent in chunks if the server declares them, or its URL is that of a cloud.

    A proxy that gives up while they are assembled does no harm, nor a server that only lists chunks.
    """
    with running(lambda directory: Cloud(directory, config=kind)) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            upload = place.begin("d/f", KEY, size=len(LARGE), modified=1_234_567_890.0)
            await write(upload, LARGE)
            [directory, *chunks] = server.chunks()
            assert re.fullmatch(r"datamover-1-0a1b-[0-9a-f]{8}", directory)
            assert chunks == [f"{directory}/{number:05d}" for number in (1, 2)]
            assert Ability.RESUME not in place.lacks
            assert Ability.RESUME not in {lack.ability for lack in pool.lacks}
            await upload.commit(replace=False)
            assert (server.root / "d/f").read_bytes() == LARGE
            assert (server.root / "d/f").stat().st_mtime == 1_234_567_890
            assert server.chunks() == []
            again, _ = await arrive(place, "d/f", LARGE)
            with pytest.raises(errors.DestinationExists):
                await again.commit(replace=False)
            await again.commit(replace=True)
            assert server.chunks() == []


@pytest_twisted.ensureDeferred
async def test_chunks_and_a_directory_that_vanished() -> None:
    """A directory that another program removed is made again, for chunks as for whole files."""
    with running(Cloud) as server:
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            for _ in range(2):
                upload, _ = await arrive(place, "d/f", LARGE)
                if (server.root / "d").exists():
                    (server.root / "d/f").unlink(missing_ok=True)
                    (server.root / "d").rmdir()
                await upload.commit(replace=False)
                assert (server.root / "d/f").read_bytes() == LARGE


@pytest.mark.parametrize("kind", ["whole", "boastful"])
@pytest_twisted.ensureDeferred
async def test_a_cloud_that_takes_no_chunks(kind: str) -> None:
    """A cloud without chunks gets a large file whole: at once, or in the next attempt if it had declared them."""
    with running(lambda directory: Cloud(directory, config=kind)) as server:
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            if kind == "boastful":
                with pytest.raises(errors.ServerError, match="takes no uploads in chunks") as caught:
                    await put(place, "f", LARGE)
                assert caught.value.retryable
            await put(place, "f", LARGE)
            assert (server.root / "f").read_bytes() == LARGE
            assert Ability.RESUME in place.lacks


@pytest_twisted.ensureDeferred
async def test_chunks_that_are_others() -> None:
    """An upload whose chunks were exchanged or removed is not resumed; surplus chunks are removed first."""
    with running(Cloud) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            upload, saved = await arrive(place, "f", LARGE)
            [directory, *chunks] = server.chunks()
            extra = server.uploads / directory / "00004"
            extra.write_bytes(b"of an earlier attempt")
            (server.uploads / chunks[1]).write_bytes(bytes(LEAST))
            assert not await place.resume("f", saved).exists()
            with pytest.raises(errors.SizeMismatch, match="its upload is not there any more"):
                await upload.commit(replace=False)
            await upload.abort()
            upload, _ = await arrive(place, "f", LARGE, key=UploadKey("1", "b"))
            (server.uploads / server.chunks()[0] / "00004").write_bytes(b"of an earlier attempt")
            await upload.commit(replace=False)
            assert (server.root / "f").read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_a_directory_is_not_put_together_over() -> None:
    """A directory in the target's place stays, with all that is in it."""
    with running(Cloud) as server:
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            await put(place, "d/kept", b"kept")
            upload, _ = await arrive(place, "d", LARGE)
            for replace in (True, False):
                with pytest.raises(errors.DestinationInvalid, match="is a directory"):
                    await upload.commit(replace=replace)
            await upload.abort()
            assert (server.root / "d/kept").read_bytes() == b"kept"


@pytest.mark.parametrize("replace", [True, False])
@pytest_twisted.ensureDeferred
async def test_put_together_before(replace: bool) -> None:
    """A process that has only the token recognises the assembled file, and does not take another's file for it."""
    with running(Cloud) as server:
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            upload, saved = await arrive(place, "f", LARGE, modified=1_234_567_890.0)
            await upload.commit(replace=replace)
        async with opened(server, chunk_size="5MiB") as pool:
            again = pool.at(Scope.DESTINATION).resume("f", saved, size=len(LARGE))
            assert not await again.exists()
            assert (await again.commit(replace=replace)).size == len(LARGE)
            (server.root / "f").write_bytes(LARGE[::-1])
            with pytest.raises(errors.SizeMismatch, match="its upload is not there any more"):
                await again.commit(replace=replace)
            assert (server.root / "f").read_bytes() == LARGE[::-1]


@pytest.mark.parametrize(
    ("kind", "error", "left"), [("busy", errors.DestinationExists, OTHERS), ("lossy", errors.SizeMismatch, None)]
)
@pytest_twisted.ensureDeferred
async def test_put_together_wrong(kind: str, error: type[errors.DataMoverError], left: bytes | None) -> None:
    """A wrong assembled file is removed; what another client wrote at that moment stays."""
    with running(lambda directory: Cloud(directory, config=kind)) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", LARGE)
            with pytest.raises(error) as caught:
                await upload.commit(replace=False)
            assert caught.value.retryable
            assert [path.read_bytes() for path in server.root.iterdir()] == ([] if left is None else [left])
            assert server.chunks() == []


@pytest_twisted.ensureDeferred
async def test_a_chunk_too_many_that_has_no_name() -> None:
    """If a surplus chunk cannot be removed, the upload begins anew, and nothing is assembled."""
    with running(lambda directory: Cloud(directory, config="parts")) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", LARGE)
            (server.uploads / server.chunks()[0] / "00004").write_bytes(b"of an earlier attempt")
            with pytest.raises(errors.SizeMismatch, match="its upload is not there any more"):
                await upload.commit(replace=False)
            await upload.abort()
            assert (server.chunks(), list(server.root.iterdir())) == ([], [])


@pytest_twisted.ensureDeferred
async def test_chunks_that_an_object_store_has() -> None:
    """An aborted upload leaves nothing in the object store; one that expired raises an error and begins anew."""
    with running(lambda directory: Cloud(directory, config="parts")) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            place = pool.at(Scope.DESTINATION)
            upload, _ = await arrive(place, "new/d/f", LARGE)
            assert len(list(server.stored.iterdir())) == 1
            await upload.abort()
            assert (server.chunks(), list(server.stored.iterdir())) == ([], [])
            upload = place.begin("new/d/f", UploadKey("1", "b"), size=len(LARGE))
            await upload.open()
            for path in server.stored.iterdir():
                path.unlink()
            with pytest.raises(errors.SizeMismatch, match="its upload is not there any more") as caught:
                await write(upload, LARGE)
            assert caught.value.retryable
            await upload.abort()
            (server.root / "new/d").rmdir()
            await put(place, "new/d/f", LARGE)
            assert (server.root / "new/d/f").read_bytes() == LARGE
            assert (server.chunks(), list(server.stored.iterdir())) == ([], [])


@pytest_twisted.ensureDeferred
async def test_quota_told_before_all_is_sent() -> None:
    """A file beyond the quota is refused at its first chunk."""
    with running(lambda directory: Cloud(directory, config="full")) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            upload = pool.at(Scope.DESTINATION).begin("f", KEY, size=len(LARGE))
            with pytest.raises(errors.NoSpace):
                await write(upload, LARGE)
            assert len(server.chunks()) == 1
            await upload.abort()
            assert (server.chunks(), list(server.root.iterdir())) == ([], [])


@pytest_twisted.ensureDeferred
async def test_put_together_and_read_back() -> None:
    """Chunks cannot be read, so a file is read back under its name; a wrong one is removed."""
    with running(lambda directory: Cloud(directory, config="rotten")) as server:
        assert isinstance(server, Cloud)
        async with opened(server, chunk_size="5MiB") as pool:
            upload, _ = await arrive(pool.at(Scope.DESTINATION), "f", LARGE)
            assert upload.arrived is None

            async def prove(origin: Origin) -> None:
                if (await read(origin))[1] != LARGE:
                    raise errors.ChecksumMismatch("it is not what was sent")

            with pytest.raises(errors.ChecksumMismatch):
                await upload.commit(replace=False, prove=prove)
            assert (server.chunks(), list(server.root.iterdir())) == ([], [])
