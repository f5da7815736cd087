"""Files of every size to and from the servers of others, several at once, and gone on with after a break."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from shutil import rmtree

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.jobs.values import Overwrite, State
from tests.engine.rig import PATIENCE, file, parts, place
from tests.engine.there import Between, between, digest
from tests.servers.dropbear import Dropbear
from tests.servers.path import Path as Way
from tests.servers.path import path_to
from tests.servers.proftpd import Proftpd
from tests.servers.rclone import CACHED, DEBIANS, Rclone
from tests.servers.ssh import SshServer

MB = 10**6
SIZES = (0, 3000, 300_000, 9 * MB, 70 * MB)
"""Of each kind one: the largest is more than all windows hold."""
LARGEST = {"dropbear": 25 * MB}
"""In the largest's place, for servers whose windows make more of no other kind, but slow."""
CUT = 40 * MB
"""The size of a file whose connection breaks when a checkpoint of it is known."""
SPEED = "20MB/s"
"""At which it is on its way until then."""
HELD = 36 * MB
"""So much of it passes until then, at most."""
SERVERS: dict[str, Callable[[Path], SshServer]] = {
    "proftpd": Proftpd,
    "dropbear": Dropbear,
    "rclone": Rclone,
    "rclone-cached": partial(Rclone, arguments=CACHED),
    "old-rclone": partial(Rclone, program=DEBIANS),
    "old-rclone-cached": partial(Rclone, program=DEBIANS, arguments=CACHED),
}
GOES_ON = {"proftpd", "dropbear", "rclone-cached"}
"""Those that let a file be written on."""


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def server(name: str) -> Iterator[SshServer]:
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    directory.chmod(0o755)
    server = SERVERS[name](directory)
    server.start()
    yield server
    server.stop()
    rmtree(directory)


@pytest_twisted.async_yield_fixture
async def way(server: SshServer) -> AsyncIterator[Way]:
    with path_to(server.port) as way:
        yield way


@pytest_twisted.ensureDeferred
async def test_there_and_back(tmp_path: Path, server: SshServer, name: str) -> None:
    """Files of every size arrive whole, two at once, over others of their name too, and come back whole."""
    sizes = [*SIZES[:-1], LARGEST.get(name, SIZES[-1])]
    async with between(tmp_path, server, max_active=2) as ends:
        (ends.there / "old").mkdir()
        old = {size: ends.made(ends.there / "old", f"{size}", size) for size in sizes}
        for overwrite, part in ((Overwrite.NEVER, 1), (Overwrite.ALWAYS, 4)):
            sent = {size: ends.made(ends.here, f"{size}", size // part) for size in sizes}
            job, files = await ends.rig.moved(
                *(file(place("here", f"{size}"), "there", f"new/{size}") for size in sizes), overwrite=overwrite
            )
            assert job.state is State.COMPLETED, [one.error for one in files]
            assert {size: digest(ends.there / f"new/{size}") for size in sizes} == sent
            assert not parts(ends.there)
        job, files = await ends.rig.moved(
            *(file(place("there", f"old/{size}"), "here", f"back/{size}") for size in sizes)
        )
        assert job.state is State.COMPLETED, [one.error for one in files]
        assert {size: digest(ends.here / f"back/{size}") for size in sizes} == old


@pytest_twisted.ensureDeferred
async def test_cut_midway(tmp_path: Path, server: SshServer, way: Way, name: str) -> None:
    """A file whose connection breaks midway arrives whole, gone on with where the server lets that be."""
    async with between(tmp_path, server, port=way.port, bandwidth=SPEED) as ends:
        sent = ends.made(ends.here, "file", CUT)
        way.hold(HELD)
        number = await ends.rig.ask(file(place("here", "file"), "there", "file"))
        await kept(ends, number, 16 * 2**20)
        way.cut()
        way.go_on()
        ends.rig.lift_limits()

        job = await ends.rig.ended(number)

        assert job.state is State.COMPLETED, job.error
        assert digest(ends.there / "file") == sent
        assert not parts(ends.there)
        resumed = await ends.told(number, "resumed")
        assert name not in GOES_ON or any(details["from"] for details in resumed)


@pytest.mark.parametrize("name", ["proftpd", "rclone"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_read_cut_midway(tmp_path: Path, server: SshServer, way: Way) -> None:
    """A file that is read over a connection that breaks midway is read on from there, and is whole."""
    async with between(tmp_path, server, port=way.port, bandwidth=SPEED) as ends:
        sent = ends.made(ends.there, "file", CUT)
        way.hold(HELD)
        number = await ends.rig.ask(file(place("there", "file"), "here", "file"))
        await kept(ends, number, 16 * 2**20)
        way.cut()
        way.go_on()
        ends.rig.lift_limits()

        job = await ends.rig.ended(number)

        assert job.state is State.COMPLETED, job.error
        assert digest(ends.here / "file") == sent
        assert any(details["from"] for details in await ends.told(number, "resumed"))


async def kept(ends: Between, job: int, least: int) -> None:
    """Wait until a checkpoint of so many bytes is in the database."""
    deadline = reactor.seconds() + PATIENCE
    while True:
        rows = await ends.rig.database.fetch(
            "SELECT (checkpoint->>'offset')::bigint AS offset FROM transfers WHERE job = %(job)s", {"job": job}
        )
        if rows[0]["offset"] is not None and rows[0]["offset"] >= least:
            return
        assert reactor.seconds() < deadline, "it never came about"
        await deferLater(reactor, 0.02)
