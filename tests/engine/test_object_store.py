"""A destination that is an object store: the whole of the engine over uploads that are no part files."""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.engine.transfer.pipe import CHECKPOINT_BYTES
from datamover.errors import ConnectionLost, Scope
from datamover.jobs.values import Naming, Overwrite, State
from datamover.postgres.database import Database
from tests.engine.rig import Rig, file, large, place, random_bytes, url
from tests.engine.test_groups import NAMES, Letters, files
from tests.protocols.toy import TOY
from tests.protocols.toy.store import STORES, ObjectStore
from tests.servers import postgres
from tests.servers.web import Exchange, File, Web
from tests.waiting import until

MIB = 2**20
big = partial(large, 64 * MIB)


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    STORES.clear()
    toy = {"access_key": "me", "seal_file": str(secret)}
    rig = await Rig(reactor, tmp_path).open(
        {
            "bucket": {"url": "toy://store/bucket", **toy},
            "slow": {"url": "toy://store/slow", "bandwidth": "10MB/s", **toy},
            "checked": {"url": "toy://store/checked", "verify": "read-back", **toy},
            "archive": {"url": "toy://store/bucket", **toy},
            "disk": {"url": (tmp_path / "disk").as_uri()},
        },
        transfers={"max_attempts": 3},
        protocols=[TOY],
    )
    STORES["store"].keys["me"] = "s3cret"
    yield rig
    await rig.close()


@pytest.fixture
def store(rig: Rig) -> ObjectStore:
    return STORES["store"]


def breaks(store: ObjectStore, request: str, times: int = 1) -> Callable[[str, str], Any]:
    """Return a fault: the connection breaks at a kind of request, so many times."""
    left = [times]

    async def fault(asked: str, key: str) -> None:
        if asked == request and left[0]:
            left[0] -= 1
            raise ConnectionLost("the connection broke", scope=Scope.DESTINATION)

    return fault


async def die_midway(rig: Rig, job: Callable[[], Any], midway: Callable[[], Any]) -> Any:
    """Have a node do ``job``, be cut off from everybody once ``midway``, and no limit of speed after that."""
    own = Database(reactor, postgres.address(rig.url), 4)
    await own.open()
    dead = await rig.engine(lease=3.0, database=own)
    asked = await job()
    await until(midway)
    await own.close()
    await until(lambda: not dead.dispatcher.active)
    rig.lift_limits()
    return asked


@pytest_twisted.ensureDeferred
async def test_large(rig: Rig, web: Web, store: ObjectStore) -> None:
    """A large file arrives in parts, with its time, and is not seen before it is whole."""
    web.route("/f", File(big(), etag='"1"', modified=1_700_000_000.0))
    await rig.engine()

    async def look(request: str, key: str) -> None:
        assert request == "log in" or "bucket/dir/f" not in store.objects or "complete" in store.requests

    store.before = look
    job, told = await rig.moved(file(url(f"{web.url}/f"), "bucket", "dir", Naming.INTO))

    assert job.state is State.COMPLETED, told
    assert store.objects["bucket/dir/f"].data == big()
    assert store.objects["bucket/dir/f"].modified == 1_700_000_000.0
    assert not store.uploads
    assert store.sent == len(big())


@pytest_twisted.ensureDeferred
async def test_resumed_by_another_node(rig: Rig, web: Web, store: ObjectStore) -> None:
    """A node that dies midway is followed by one that sends only what was not saved, though nothing is read back."""
    web.route("/f", File(big(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    job = await die_midway(rig, ask, rig.saved)
    before = store.sent
    await rig.engine()
    record = await rig.ended(job)

    assert record.state is State.COMPLETED, record.error
    assert store.objects["slow/f"].data == big()
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["from"] >= CHECKPOINT_BYTES
    assert store.sent - before == len(big()) - resumed["from"]
    assert store.requests.count("create") == 1
    assert not store.uploads


@pytest_twisted.ensureDeferred
async def test_parts_that_are_gone(rig: Rig, web: Web, store: ObjectStore) -> None:
    """Where the store has given up what had arrived, the file is sent anew."""
    web.route("/f", File(big(), etag='"1"', cut=40 * MIB, cuts=1))

    async def forget(request: str, key: str) -> None:
        if request == "parts":
            store.uploads.clear()

    store.before = forget
    await rig.engine()
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"))

    assert job.state is State.COMPLETED, job.error
    assert store.objects["bucket/f"].data == big()
    assert store.requests.count("create") == 2
    assert not store.uploads


@pytest_twisted.ensureDeferred
async def test_small(rig: Rig, web: Web, store: ObjectStore) -> None:
    """A small file is one request and a look."""
    web.route("/f", File(b"small", etag='"1"'))
    await rig.engine()
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"))
    assert job.state is State.COMPLETED
    assert store.objects["bucket/f"].data == b"small"
    assert store.requests == ["log in", "put", "head"]


@pytest.mark.parametrize("size", [5, MIB])
@pytest.mark.parametrize(
    ("overwrite", "same", "state", "replaced"),
    [
        (Overwrite.NEVER, False, State.FAILED, False),
        (Overwrite.NEVER, True, State.COMPLETED, False),
        (Overwrite.IF_DIFFERENT, False, State.COMPLETED, True),
        (Overwrite.IF_DIFFERENT, True, State.COMPLETED, False),
        (Overwrite.ALWAYS, True, State.COMPLETED, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_overwrite(
    rig: Rig, web: Web, store: ObjectStore, size: int, overwrite: Overwrite, same: bool, state: State, replaced: bool
) -> None:
    """What is there is replaced, left, or told to be there, as was asked for."""
    new = random_bytes(size)
    old = new if same else b"old"
    await store.put("bucket/f", old, None, if_none_match=False)
    there = store.objects["bucket/f"]
    web.route("/f", File(new, etag='"1"'))
    await rig.engine()
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"), overwrite=overwrite)
    assert job.state is state
    assert store.objects["bucket/f"].data == (new if replaced else old)
    assert (store.objects["bucket/f"] is there) is not replaced
    assert state is not State.FAILED or (told.error and told.error["code"]) == "DESTINATION_EXISTS"
    assert not store.uploads


@pytest.mark.parametrize("size", [5, MIB])
@pytest_twisted.ensureDeferred
async def test_commit_whose_answer_is_lost(rig: Rig, web: Web, store: ObjectStore, size: int) -> None:
    """What was committed though its answer was lost is found to be there, and no conflict with itself."""
    data = random_bytes(size)
    web.route("/f", File(data, etag='"1"'))
    store.after = breaks(store, "put" if size == 5 else "complete")
    await rig.engine()
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"), overwrite=Overwrite.NEVER)
    assert job.state is State.COMPLETED, job.error
    assert store.objects["bucket/f"].data == data
    assert "already_there" in await rig.kinds(job.id)
    assert not store.uploads


@pytest_twisted.ensureDeferred
async def test_kept_otherwise(rig: Rig, web: Web, store: ObjectStore) -> None:
    """An object of which the store tells another digest than was sent is removed, and the transfer fails."""
    web.route("/f", File(random_bytes(MIB), etag='"1"'))
    store.keep = lambda data: data[:-1] + b"?"
    await rig.engine()
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "bucket", "f"))
    assert job.state is State.FAILED
    assert told.error is not None
    assert told.error["code"] == "CHECKSUM_MISMATCH"
    assert "bucket/f" not in store.objects
    assert not store.uploads


@pytest_twisted.ensureDeferred
async def test_read_back(rig: Rig, web: Web, store: ObjectStore) -> None:
    """Where it is asked for, an object is read under its name before it counts as there."""
    data = random_bytes(MIB)
    web.route("/f", File(data, etag='"1"'))
    await rig.engine()
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "checked", "f"))
    assert job.state is State.COMPLETED
    assert store.requests.index("get") > store.requests.index("complete")


@pytest_twisted.ensureDeferred
async def test_cancelled(rig: Rig, web: Web, store: ObjectStore) -> None:
    """A transfer that is cancelled midway leaves nothing."""
    web.route("/f", File(big(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))
    await until(lambda: store.sent >= 2 * MIB)
    await rig.store.cancel(job)
    assert (await rig.ended(job)).state is State.CANCELLED
    assert not store.uploads
    assert not store.objects


@pytest_twisted.ensureDeferred
async def test_left_by_a_node_that_told_nobody(rig: Rig, web: Web, store: ObjectStore) -> None:
    """An upload that a node began and died over, before it told of it, is swept by the next attempt."""
    web.route("/f", File(big(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "dir", Naming.INTO))

    job = await die_midway(rig, ask, lambda: store.uploads)
    assert len(store.uploads) == 1
    web.route("/f", File(b"another", etag='"2"'))
    await rig.engine()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert store.objects["slow/dir/f"].data == b"another"
    assert not store.uploads


@pytest.mark.parametrize("lost", ["the request", "the answer"])
@pytest_twisted.ensureDeferred
async def test_archive(rig: Rig, web: Web, store: ObjectStore, lost: str) -> None:
    """An archive whose commit breaks off is committed by the next attempt from what is remembered, not sent again."""
    contents = {f"f{number}.bin": random_bytes(MIB) for number in range(3)}
    for name, content in contents.items():
        web.route(f"/{name}", File(content, etag='"1"'))
    fault = breaks(store, "complete")
    if lost == "the request":
        store.before = fault
    else:
        store.after = fault
    await rig.engine()
    job, _ = await rig.moved(
        *(file(url(f"{web.url}/{name}"), "bucket", "out/all.zip") for name in contents), archive="zip"
    )

    assert job.state is State.COMPLETED, job.error
    with zipfile.ZipFile(BytesIO(store.objects["bucket/out/all.zip"].data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    assert store.requests.count("create") == 1
    assert "retrying" in await rig.kinds(job.id)
    assert not store.uploads


@pytest_twisted.ensureDeferred
async def test_dataset(rig: Rig, web: Web, store: ObjectStore) -> None:
    """A dataset's files are committed in their order once all have arrived; one that breaks off goes on from there."""
    web.route("/letters", File(b"abc", etag='"1"'))
    rig.datasets["letters"] = Letters(rig, web)
    broken: list[int] = []

    async def break_at_the_second(request: str, key: str) -> None:
        if request == "complete" and store.objects and not broken:
            broken.append(len(store.objects))
            raise ConnectionLost("the connection broke", scope=Scope.DESTINATION)

    store.before = break_at_the_second
    await rig.engine()
    job, _ = await rig.moved(*files())

    assert job.state is State.COMPLETED, job.error
    assert broken == [1]
    assert set(store.objects) == {f"bucket/set/{name}" for name in NAMES}
    assert store.requests.count("create") == len(NAMES)
    assert not store.uploads


@pytest_twisted.ensureDeferred
async def test_source(rig: Rig, store: ObjectStore, tmp_path: Path) -> None:
    """An object is moved to a disk; where the connection breaks, from where it broke."""
    await store.put("bucket/f", big(), 1_700_000_000.0, if_none_match=False)
    asked: list[int] = []

    async def break_midway(request: str, key: str) -> None:
        if request == "get":
            asked.append(len(asked))
            if len(asked) == 600:
                raise ConnectionLost("the connection broke", scope=Scope.SOURCE)

    store.before = break_midway
    await rig.engine()
    job, _ = await rig.moved(file(place("bucket", "f"), "disk", "f"))
    assert job.state is State.COMPLETED, job.error
    assert (tmp_path / "disk/f").read_bytes() == big()
    assert (tmp_path / "disk/f").stat().st_mtime == 1_700_000_000.0
    assert "resumed" in await rig.kinds(job.id)
    assert len(asked) < 1200


@pytest.mark.parametrize("destination", ["bucket", "disk"])
@pytest_twisted.ensureDeferred
async def test_called_otherwise_by_the_next_attempt(
    rig: Rig, web: Web, store: ObjectStore, tmp_path: Path, destination: str
) -> None:
    """Where the source has another name for its file at the next attempt, that begins anew; nothing else stays."""
    served = File(big(), etag='"1"', cut=40 * MIB, cuts=1)

    def serve(exchange: Exchange) -> None:
        name = "first" if served.cuts else "second"
        served.headers = [("Content-Disposition", f'attachment; filename="{name}.bin"')]
        served(exchange)

    web.route("/f", serve)
    await rig.engine()
    job, _ = await rig.moved(file(url(f"{web.url}/f"), destination, "dir", Naming.INTO))

    assert job.state is State.COMPLETED, job.error
    if destination == "bucket":
        assert {key: found.data == big() for key, found in store.objects.items()} == {"bucket/dir/second.bin": True}
        assert not store.uploads
    else:
        assert (tmp_path / "disk/dir/second.bin").read_bytes() == big()
        assert os.listdir(tmp_path / "disk/dir") == ["second.bin"]
    assert "retrying" in await rig.kinds(job.id)
