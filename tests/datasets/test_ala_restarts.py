"""A request at the Atlas over restarts: gone on with while it lives, asked anew when not, cancelled when unwanted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from datamover.datasets.ala.dataset import Ala
from tests.datasets.atlas import TARGETS, atlas, names_in, refused, subject
from tests.datasets.bench import TestBench
from tests.servers.ala import LSID, FakeAla
from tests.servers.web import trickle
from tests.waiting import until


async def killed(ala: Ala, bench: TestBench, when: Callable[[], bool]) -> None:
    """Begin a dataset, and stop at once when it has come so far."""
    making: Deferred[Any] = ensureDeferred(ala.make(subject(), bench))
    await until(when)
    making.cancel()
    with pytest.raises(CancelledError):
        await making


@pytest_twisted.ensureDeferred
async def test_stopped_while_the_atlas_prepares(tmp_path: Path) -> None:
    """Who goes on with the memory looks at the same request and makes no second one."""
    async with atlas() as (server, ala):
        server.held = True
        bench = TestBench(tmp_path, TARGETS)
        await killed(ala, bench, lambda: server.count("status") > 1)
        server.held = False
        made = await ala.make(subject(), TestBench(tmp_path, TARGETS, bench.memory))
        assert (server.count("ask"), len(server.downloads)) == (1, 1)
    assert len(made.paths) == 3


@pytest_twisted.ensureDeferred
async def test_stopped_while_it_is_downloaded(tmp_path: Path) -> None:
    """The download is fetched again, from the same request."""
    async with atlas() as (server, ala):
        server.handle("download", trickle(server.archive, seconds=0.02))
        bench = TestBench(tmp_path, TARGETS)
        await killed(ala, bench, lambda: server.count("download") > 0)
        server.heal()
        await ala.make(subject(), TestBench(tmp_path, TARGETS, bench.memory))
        assert (server.count("ask"), server.count("download")) == (1, 2)


@pytest_twisted.ensureDeferred
async def test_stopped_after_it_was_made(tmp_path: Path) -> None:
    """Where the files were made and not placed, they are made again from the same request."""
    async with atlas() as (server, ala):
        bench = TestBench(tmp_path, TARGETS)
        first = (await ala.make(subject(), bench)).paths[0].read_bytes()
        again = await ala.make(subject(), TestBench(tmp_path, TARGETS, bench.memory))
        assert again.paths[0].read_bytes() == first
        assert server.count("ask") == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("word", [None, "invalidId", "UNAVAILABLE"])
async def test_a_request_that_is_gone(tmp_path: Path, word: str | None) -> None:
    """Where the Atlas does not know the remembered request any more, by status or in a word, it is asked once anew."""
    async with atlas() as (server, ala):
        server.held = True
        bench = TestBench(tmp_path, TARGETS)
        await killed(ala, bench, lambda: server.count("status") > 1)
        server.held = False
        # Not the next answer: a look of the one that was killed may still be on its way.
        server.downloads[0].forgotten = word is None
        server.downloads[0].word = word
        bench = TestBench(tmp_path, TARGETS, bench.memory)
        await ala.make(subject(), bench)
        assert server.count("ask") == 2
    assert bench.memory["status_url"].endswith("/2")


@pytest_twisted.ensureDeferred
async def test_a_download_that_is_gone(tmp_path: Path) -> None:
    """Where the remembered download was removed, the records are asked for anew; a fresh one gone is an error."""
    async with atlas() as (server, ala):
        bench = TestBench(tmp_path, TARGETS)
        await ala.make(subject(), bench)
        server.fail("download", 404, "expired", times=1)
        await ala.make(subject(), TestBench(tmp_path, TARGETS, bench.memory))
        assert server.count("ask") == 2
        server.fail("download", 404, "expired")
        bench = TestBench(tmp_path, TARGETS)
        error = await refused(ala, bench)
    assert error.code == "DATASET_NOT_FOUND"
    assert bench.memory == {}


@pytest_twisted.ensureDeferred
async def test_a_request_that_the_atlas_loses(tmp_path: Path) -> None:
    """A request that was just accepted and is unknown at the first look is a fault of the server, tried again later."""
    async with atlas() as (server, ala):
        server.fail("status", 404, "which download?")
        bench = TestBench(tmp_path, TARGETS)
        error = await refused(ala, bench)
    assert (error.code, error.retryable) == ("SERVER_ERROR", True)
    assert "which download?" in error.message
    assert bench.memory == {}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "memory",
    [
        {"lsid": "urn:lsid:example.org:taxon:other", "since": 1.0, "status_url": "http://127.0.0.1:1/status"},
        {"lsid": LSID, "since": 1.0},
        {"lsid": LSID, "since": "x", "status_url": "http://127.0.0.1:1/status"},
        {"lsid": LSID, "since": 1.0, "status_url": 5},
        {"something": "else"},
    ],
)
async def test_a_memory_of_no_use(tmp_path: Path, memory: dict[str, Any]) -> None:
    """A memory of another taxon, or one that makes no sense, is as good as none."""
    async with atlas() as (server, ala):
        await ala.make(subject(), TestBench(tmp_path, TARGETS, memory))
        assert server.count("ask") == 1


@pytest_twisted.ensureDeferred
async def test_it_is_remembered_at_once(tmp_path: Path) -> None:
    """The first thing after the Atlas accepted is to remember where to look."""
    async with atlas() as (server, ala):
        bench = TestBench(tmp_path, TARGETS)
        await ala.make(subject(), bench)
        first, last = bench.memories[0], bench.memories[-1]
        assert first["status_url"] == f"{server.occurrences_url}/occurrences/offline/status/1"
        assert (first["download_url"], last["download_url"]) == (None, f"{server.url}/downloads/1/data.zip")


@pytest_twisted.ensureDeferred
async def test_a_wait_without_end(tmp_path: Path) -> None:
    """What the Atlas does not prepare in time is cancelled there, forgotten, and tried again later."""
    async with atlas(max_wait=0.1) as (server, ala):
        server.held = True
        bench = TestBench(tmp_path, TARGETS)
        error = await refused(ala, bench)
        assert server.downloads[0].cancelled
    assert (error.code, error.retryable, bench.memory) == ("TIMED_OUT", True, {})


async def abandoned(server: FakeAla, ala: Ala, directory: Path) -> TestBench:
    """Begin, stop while the Atlas prepares, and abandon."""
    server.held = True
    bench = TestBench(directory, TARGETS)
    await killed(ala, bench, lambda: server.count("status") > 0)
    await ala.abandon(bench.memory)
    return bench


@pytest_twisted.ensureDeferred
async def test_abandoning(tmp_path: Path) -> None:
    """What nobody wants any more is cancelled at the Atlas."""
    async with atlas() as (server, ala):
        await abandoned(server, ala, tmp_path)
        assert [each.cancelled for each in server.downloads] == [True]


@pytest_twisted.ensureDeferred
async def test_abandoning_never_fails(tmp_path: Path) -> None:
    """Whatever the Atlas says to that, and whatever is remembered, nothing is raised."""
    async with atlas() as (server, ala):
        server.fail("cancel", 500)
        bench = await abandoned(server, ala, tmp_path)
        assert server.count("cancel") == 1
        await server.stop(for_a_while=True)
        for memory in (bench.memory, {}, {"lsid": 5}, {**bench.memory, "cancel_url": "file:///etc/passwd"}):
            await ala.abandon(memory)
        await server.start()


@pytest_twisted.ensureDeferred
async def test_nothing_to_abandon(tmp_path: Path) -> None:
    """A finished request is not cancelled."""
    async with atlas() as (server, ala):
        bench = TestBench(tmp_path, TARGETS)
        await ala.make(subject(), bench)
        await ala.abandon(bench.memory)
        assert server.count("cancel") == 0
    assert len(names_in(tmp_path)) == 3
