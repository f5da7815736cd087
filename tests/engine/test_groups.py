"""Placement groups: a dataset's files are made, brought and verified together; their renames are rolled forward."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from datamover.datasets.base import Bench, MadeDataset, Subject
from datamover.engine import worker
from datamover.errors import ConnectionLost, DestinationForbidden, InvalidRequest, ServerError
from datamover.jobs.values import DatasetSource, Naming, NewFile, Overwrite, State
from datamover.postgres.database import Database
from tests.engine.rig import Rig, file, parts, url
from tests.servers import postgres
from tests.servers.web import File, Web
from tests.waiting import until

URL = "letters://letters?word=abc"
NAMES = ("a.txt", "b.txt", "description.txt")


class Letters:
    """A dataset of a word's letters, fetched from a web server."""

    def __init__(self, rig: Rig, web: Web) -> None:
        assert rig.registry.http is not None
        self.origin = rig.registry.http.origin
        self.web = web
        self.memories: list[Mapping[str, Any]] = []
        self.abandoned: list[Mapping[str, Any]] = []
        self.working: Deferred[None] | None = None

    def subject(self, url: str) -> Subject:
        words = parse_qs(urlsplit(url).query).get("word")
        if not words:
            raise InvalidRequest("expected a word")
        return Subject("letters", words[0])

    def names(self, subject: Subject) -> tuple[str, ...]:
        return NAMES

    async def make(self, subject: Subject, bench: Bench) -> MadeDataset:
        self.memories.append(dict(bench.memory))
        await bench.remember({"asked": subject.key})
        bench.tell("asking for letters")
        if self.working is not None:
            await self.working
        fetched = await bench.fetch(self.origin(f"{self.web.url}/letters"), "letters")
        paths = [fetched.path]
        for name, text in (("b.txt", "b"), ("description.txt", " ".join(bench.targets))):
            paths.append(bench.directory / name)
            paths[-1].write_text(text)
        return MadeDataset(tuple(paths), {"letters": len(subject.key)})

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        self.abandoned.append(dict(memory))


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    (tmp_path / "archive").mkdir()
    destinations = {"archive": {"url": f"faulty://{tmp_path}/archive"}}
    rig = await Rig(reactor, tmp_path).open(destinations, transfers={"max_attempts": 3})
    yield rig
    await rig.close()


@pytest.fixture
def web(web: Web) -> Web:
    web.route("/letters", File(b"abc", etag='"1"'))
    return web


@pytest.fixture
def letters(rig: Rig, web: Web) -> Letters:
    letters = Letters(rig, web)
    rig.datasets["letters"] = letters
    return letters


def files(directory: str = "set") -> list[NewFile]:
    return [
        NewFile(DatasetSource(URL, number), "archive", f"{directory}/{name}", Naming.EXACT)
        for number, name in enumerate(NAMES)
    ]


@pytest_twisted.ensureDeferred
async def test_dataset(rig: Rig, letters: Letters, tmp_path: Path) -> None:
    """A dataset's files arrive together, in their order, the last one after all others."""
    order: list[str] = []

    async def note(operation: str, path: str) -> None:
        if operation == "place":
            order.append(path)

    rig.faulty.before = note
    await rig.engine()
    job, told = await rig.moved(*files())

    assert job.state is State.COMPLETED
    assert order == [f"set/{name}" for name in NAMES]
    assert (tmp_path / "archive/set/a.txt").read_text() == "abc"
    assert (tmp_path / "archive/set/description.txt").read_text() == "set/a.txt set/b.txt set/description.txt"
    assert [one.size for one in told] == [3, 1, 39]
    assert all(one.digest for one in told)
    assert (job.bytes_total, job.bytes_done) == (43, 43)
    assert await rig.kinds(job.id) == ["submitted", "preparing", "made", "completed", "completed"]
    assert not letters.abandoned
    assert not parts(tmp_path)
    assert not list((tmp_path / "staging").glob("*/*"))


@pytest_twisted.ensureDeferred
async def test_dataset_in_an_archive(rig: Rig, letters: Letters, web: Web, tmp_path: Path) -> None:
    """A dataset and other files go into one archive."""
    web.route("/more", File(b"more", etag='"1"'))
    await rig.engine()
    inside = [NewFile(DatasetSource(URL, number), "archive", "all.zip", Naming.EXACT) for number in range(len(NAMES))]
    job, _ = await rig.moved(*inside, file(url(f"{web.url}/more"), "archive", "all.zip"), archive="zip")

    assert job.state is State.COMPLETED, job.error
    with zipfile.ZipFile(tmp_path / "archive/all.zip") as archive:
        assert archive.namelist() == [*NAMES, "more"]
        assert archive.read("a.txt") == b"abc"


@pytest_twisted.ensureDeferred
async def test_one_cannot_be_brought(rig: Rig, letters: Letters, tmp_path: Path) -> None:
    """Where one file cannot be brought, none is placed, nothing is left, and the makers are told."""

    async def refuse(operation: str, path: str) -> None:
        if operation == "write":
            writes.append(path)
            if len(writes) == 2:
                raise DestinationForbidden("this one may not be written")

    writes: list[str] = []
    rig.faulty.before = refuse
    await rig.engine()
    job, told = await rig.moved(*files())

    assert job.state is State.FAILED
    assert {one.state for one in told} == {State.FAILED}
    assert letters.abandoned == [{"asked": "abc"}]
    assert [path for path in (tmp_path / "archive").rglob("*") if path.is_file()] == []


@pytest_twisted.ensureDeferred
async def test_breaks_between_the_renames(rig: Rig, letters: Letters, tmp_path: Path) -> None:
    """Once the renames have begun, what breaks is gone on with, and nothing is made or brought again."""
    breaks = [ConnectionLost("the connection broke")]

    async def fault(operation: str, path: str) -> None:
        if operation == "place" and path == "set/b.txt" and breaks:
            raise breaks.pop()

    rig.faulty.before = fault
    await rig.engine()
    job, _ = await rig.moved(*files())

    assert job.state is State.COMPLETED
    assert job.first_error is not None
    assert len(letters.memories) == 1
    assert sorted(path.name for path in (tmp_path / "archive/set").iterdir()) == sorted(NAMES)


@pytest_twisted.ensureDeferred
async def test_node_dies_between_the_renames(rig: Rig, letters: Letters, tmp_path: Path) -> None:
    """A node that loses its lease between two renames is followed by one that finishes them, from the part files."""
    stuck: Deferred[None] = Deferred()

    async def fault(operation: str, path: str) -> None:
        if operation == "place" and path == "set/b.txt":
            await stuck

    rig.faulty.before = fault
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    dying = await rig.engine(lease=3.0, database=own)
    job = await rig.ask(*files())
    await until(lambda: (tmp_path / "archive/set/a.txt").exists())
    await own.close()
    await until(lambda: not dying.dispatcher.active)
    assert not (tmp_path / "archive/set/description.txt").exists()

    async def nothing(operation: str, path: str) -> None:
        """It works again."""

    rig.faulty.before = nothing
    await rig.engine()
    record = await rig.ended(job)

    assert record.state is State.COMPLETED, record.error
    assert len(letters.memories) == 1
    assert (tmp_path / "archive/set/description.txt").read_text() == "set/a.txt set/b.txt set/description.txt"
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_cancelled_while_it_is_made(rig: Rig, letters: Letters, tmp_path: Path) -> None:
    """Cancelling reaches a dataset that is being made, and the service that was asked for it."""
    letters.working = Deferred()
    await rig.engine()
    job = await rig.ask(*files())
    await until(lambda: letters.memories)
    record = await rig.store.job(job)
    for _ in range(100):
        if record.stage == "asking for letters":
            break
        record = await rig.store.wait(job, 0.1)
    assert record.state is State.PREPARING
    assert record.stage == "asking for letters"

    await rig.store.cancel(job)
    ended = await rig.ended(job)

    assert ended.state is State.CANCELLED
    assert letters.abandoned == [{"asked": "abc"}]
    assert not list((tmp_path / "archive").iterdir())


@pytest_twisted.ensureDeferred
async def test_cancelled_where_removing_hangs(rig: Rig, letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled group ends soon though its destination hangs at each of its files, and the dataset's service does."""

    async def abandon(memory: Mapping[str, Any]) -> None:
        await Deferred()

    monkeypatch.setattr(letters, "abandon", abandon)
    monkeypatch.setattr(worker, "CLEARING", 0.5)
    written: list[str] = []

    async def hang(operation: str, path: str) -> None:
        if operation == "write":
            written.append(path)
        if operation == "remove" or len(written) == 3:
            await Deferred()

    rig.faulty.before = hang
    await rig.engine()
    job = await rig.ask(*files())
    await until(lambda: len(written) == 3)
    await rig.store.cancel(job)
    assert (await rig.store.wait(job, 10.0)).state is State.CANCELLED


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("cancelled", [False, True])
async def test_no_longer_configured(rig: Rig, letters: Letters, cancelled: bool) -> None:
    """A job whose dataset was begun and is no longer configured fails with what to do, and can be cancelled."""
    letters.working = Deferred()
    engine = await rig.engine()
    job = await rig.ask(*files())
    await until(lambda: letters.memories)
    await rig.store.pause(job)
    await until(lambda: not engine.dispatcher.active)
    rig.datasets.clear()
    await (rig.store.cancel(job) if cancelled else rig.store.resume(job))
    ended = await rig.ended(job)

    if cancelled:
        assert ended.state is State.CANCELLED
    else:
        assert ended.state is State.FAILED
        assert ended.error is not None
        assert ended.error["code"] == "UNSUPPORTED_SCHEME"


@pytest_twisted.ensureDeferred
async def test_what_is_remembered(rig: Rig, letters: Letters, web: Web) -> None:
    """What the maker remembered is there for the next attempt, and gone when the job has ended."""
    broken = iter([500])
    whole = File(b"abc", etag='"1"')

    def answer(exchange: Any) -> Any:
        status = next(broken, None)
        return exchange.answer(status) if status else whole(exchange)

    web.route("/letters", answer)
    await rig.engine()
    job, _ = await rig.moved(*files(), overwrite=Overwrite.ALWAYS)

    assert job.state is State.COMPLETED
    assert job.first_error is not None
    assert job.first_error["code"] == ServerError.code
    assert letters.memories == [{}, {"asked": "abc"}]
    rows = await rig.database.fetch("SELECT memory FROM transfers")
    assert [row["memory"] for row in rows] == [None, None, None]


@pytest_twisted.ensureDeferred
async def test_node_dies_within_a_rename(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A node that dies when its file has its name but its part file is still there leaves that to the next."""
    stuck: Deferred[None] = Deferred()

    async def half(operation: str, path: str) -> None:
        if operation == "place":
            (part,) = parts(tmp_path / "archive")
            (tmp_path / "archive" / path).hardlink_to(part)
            await stuck

    rig.faulty.before = half
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    dying = await rig.engine(lease=3.0, database=own)
    job = await rig.ask(file(url(f"{web.url}/letters"), "archive", "one"))
    await until(lambda: (tmp_path / "archive/one").exists())
    await own.close()
    await until(lambda: not dying.dispatcher.active)
    assert parts(tmp_path)

    async def nothing(operation: str, path: str) -> None:
        """It works again."""

    rig.faulty.before = nothing
    await rig.engine()
    record = await rig.ended(job)

    assert record.state is State.COMPLETED, record.error
    assert (tmp_path / "archive/one").read_bytes() == b"abc"
    assert not parts(tmp_path)


@pytest_twisted.ensureDeferred
async def test_digests_are_known_before_the_archive_is_placed(rig: Rig, web: Web) -> None:
    """Before an archive takes its name its files' digests are on disk: who rolls forward cannot take them again."""
    known: list[str | None] = []

    async def note(operation: str, path: str) -> None:
        if operation == "place":
            known.extend(one.digest for one in await rig.store.files(job))

    rig.faulty.before = note
    names = ("one", "two", "three")
    for name in names:
        web.route(f"/{name}", File(name.encode(), etag='"1"'))
    job = await rig.ask(*(file(url(f"{web.url}/{name}"), "archive", "all.zip") for name in names), archive="zip")
    await rig.engine(telling=Clock())
    await rig.ended(job)
    assert known == [f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in names]
