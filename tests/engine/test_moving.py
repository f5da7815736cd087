"""Moving files: from the web and from disks to disks, whole and verified, whatever they are called or hold."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import Checksum, Naming, Overwrite, State
from tests.engine.rig import Rig, file, parts, place, url
from tests.servers.web import File, Web

MIB = 2**20


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    rig = await Rig(reactor, tmp_path).open(
        {"archive": {"url": (tmp_path / "archive").as_uri()}, "store": {"url": (tmp_path / "store").as_uri()}}
    )
    await rig.engine()
    yield rig
    await rig.close()


@pytest.mark.parametrize("size", [0, 1, 65_536, 5 * MIB + 17])
@pytest_twisted.ensureDeferred
async def test_url_to_disk(rig: Rig, web: Web, tmp_path: Path, size: int) -> None:
    """A file of any size comes from a web server to its path, whole, and its digest is told."""
    content = os.urandom(size)
    web.route("/data.csv", File(content, etag='"1"'))

    job, files = await rig.moved(file(url(f"{web.url}/data.csv"), "archive", "deep/below/data.csv"))

    assert job.state is State.COMPLETED
    assert (tmp_path / "archive/deep/below/data.csv").read_bytes() == content
    assert files[0].digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (files[0].size, files[0].bytes_done, job.bytes_total, job.bytes_done) == (size, size, size, size)
    assert await rig.kinds(job.id) == ["submitted", "started", "completed", "completed"]
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_disk_to_disk_into_a_directory(rig: Rig, tmp_path: Path) -> None:
    """A file of a registered place keeps its name in the directory that it is moved into."""
    (tmp_path / "store/in").mkdir(parents=True)
    (tmp_path / "store/in/Zürich 数据.csv").write_bytes(b"a,b\n")

    job, files = await rig.moved(file(place("store", "in/Zürich 数据.csv"), "archive", "out", Naming.INTO))

    assert job.state is State.COMPLETED
    assert files[0].path == "out/Zürich 数据.csv"
    assert (tmp_path / "archive/out/Zürich 数据.csv").read_bytes() == b"a,b\n"


@pytest_twisted.ensureDeferred
async def test_name_of_a_directory_that_is_there(rig: Rig, tmp_path: Path) -> None:
    """A path that may be either is a directory where there is one of that name, else the file's path."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/a.csv").write_bytes(b"a")
    (tmp_path / "archive/there").mkdir(parents=True)

    _, inside = await rig.moved(file(place("store", "a.csv"), "archive", "there", Naming.PROBE))
    _, named = await rig.moved(file(place("store", "a.csv"), "archive", "new", Naming.PROBE))

    assert (inside[0].path, named[0].path) == ("there/a.csv", "new")
    assert (tmp_path / "archive/there/a.csv").read_bytes() == (tmp_path / "archive/new").read_bytes() == b"a"


@pytest.mark.parametrize(
    ("overwrite", "there", "state", "code", "kept"),
    [
        (Overwrite.NEVER, b"same", State.COMPLETED, None, b"same"),
        (Overwrite.NEVER, b"else", State.FAILED, "DESTINATION_EXISTS", b"else"),
        (Overwrite.NEVER, b"longer", State.FAILED, "DESTINATION_EXISTS", b"longer"),
        (Overwrite.IF_DIFFERENT, b"same", State.COMPLETED, None, b"same"),
        (Overwrite.IF_DIFFERENT, b"else", State.COMPLETED, None, b"same"),
        (Overwrite.ALWAYS, b"longer", State.COMPLETED, None, b"same"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_there_already(
    rig: Rig, web: Web, tmp_path: Path, overwrite: Overwrite, there: bytes, state: State, code: str | None, kept: bytes
) -> None:
    """What is at the target is compared by content, and left or replaced as was asked."""
    web.route("/f", File(b"same", etag='"1"'))
    (tmp_path / "archive").mkdir()
    target = tmp_path / "archive/f"
    target.write_bytes(there)
    before = target.stat().st_ino

    job, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "f"), overwrite=overwrite)

    assert (job.state, (job.error or {}).get("code")) == (state, code)
    assert target.read_bytes() == kept
    already = overwrite is not Overwrite.ALWAYS and there == b"same"
    assert ("already_there" in await rig.kinds(job.id)) == already
    assert (target.stat().st_ino == before) == (already or code is not None)
    assert not parts(tmp_path)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5"])
@pytest_twisted.ensureDeferred
async def test_checksum(rig: Rig, web: Web, tmp_path: Path, algorithm: str) -> None:
    """A checksum that the content has lets it in; another keeps it out, and both values are told."""
    content = os.urandom(100_000)
    right, wrong = (hashlib.new(algorithm, text).hexdigest() for text in (content, b"else"))
    web.route("/f", File(content, etag='"1"'))

    good, _ = await rig.moved(file(url(f"{web.url}/f"), "archive", "good", checksum=Checksum(algorithm, right)))
    bad, _ = await rig.moved(
        file(url(f"{web.url}/f"), "archive", "bad", checksum=Checksum(algorithm, wrong)), max_attempts=2
    )

    assert good.state is State.COMPLETED
    assert bad.state is State.FAILED
    assert bad.error is not None
    assert bad.error["code"] == "CHECKSUM_MISMATCH"
    assert right in bad.error["message"]
    assert wrong in bad.error["message"]
    assert not (tmp_path / "archive/bad").exists()
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_many_files_of_one_job(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A job of many files ends when the last does; what failed and what arrived are told apart."""
    for number in range(40):
        web.route(f"/{number}", File(str(number).encode(), etag='"1"'))
    wanted = [file(url(f"{web.url}/{number}"), "archive", f"many/{number}") for number in range(42)]

    job, files = await rig.moved(*wanted)

    assert job.state is State.PARTIAL
    assert (job.files_completed, job.files_failed) == (40, 2)
    assert [one.state for one in files[40:]] == [State.FAILED] * 2
    assert job.error is not None
    assert job.error["code"] == "SOURCE_NOT_FOUND"
    assert sorted(int(path.name) for path in (tmp_path / "archive/many").iterdir()) == list(range(40))


@pytest_twisted.ensureDeferred
async def test_name_is_expected_before_it_is_told(rig: Rig, web: Web, tmp_path: Path) -> None:
    """The path that a URL promises is told from the beginning; a file that its server calls otherwise goes by that."""
    disposition = [("Content-Disposition", 'attachment; filename="b.csv"')]
    web.route("/in/a.csv", File(b"a", etag='"1"', headers=disposition))

    await rig.store.hold("archive", "not yet")
    job = await rig.ask(file(url(f"{web.url}/in/a.csv"), "archive", "d", Naming.INTO))
    expected = (await rig.store.files(job))[0].path
    await rig.store.release("archive")
    await rig.ended(job)

    assert expected == "d/a.csv"
    assert (await rig.store.files(job))[0].path == "d/b.csv"
    assert [path.name for path in (tmp_path / "archive/d").iterdir()] == ["b.csv"]


@pytest_twisted.ensureDeferred
async def test_name_that_another_file_is_expected_to_have(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A file that turns out to be called as another of the job promises to be gives way to it, whichever is first."""
    disposition = [("Content-Disposition", 'attachment; filename="a.csv"')]
    web.route("/b", File(b"b", etag='"1"', headers=disposition))
    web.route("/a.csv", File(b"a", etag='"1"'))

    job, files = await rig.moved(
        *(file(url(f"{web.url}/{name}"), "archive", "d", Naming.INTO) for name in ("b", "a.csv")),
        overwrite=Overwrite.ALWAYS,
    )

    assert job.state is State.PARTIAL
    assert files[0].error is not None
    assert files[0].error["code"] == "DESTINATION_EXISTS"
    assert (tmp_path / "archive/d/a.csv").read_bytes() == b"a"


@pytest_twisted.ensureDeferred
async def test_two_files_of_one_name(rig: Rig, web: Web, tmp_path: Path) -> None:
    """Two files of a job whose servers give them the same name do not land on each other."""
    web.route("/a/f.csv", File(b"a", etag='"1"'))
    web.route("/b/f.csv", File(b"b", etag='"1"'))

    job, _ = await rig.moved(
        *(file(url(f"{web.url}/{part}/f.csv?x=1"), "archive", "d", Naming.INTO) for part in "ab"),
        overwrite=Overwrite.ALWAYS,
    )

    assert job.state is State.PARTIAL
    assert job.error is not None
    assert job.error["code"] == "DESTINATION_EXISTS"
    assert [path.name for path in (tmp_path / "archive/d").iterdir()] == ["f.csv"]
