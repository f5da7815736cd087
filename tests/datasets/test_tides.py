"""A dataset that datamover does not know, added by its package and its name: moved, reloaded, checked, refused."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from datamover.security.passwords import hash_password
from tests.datasets.tides.dataset import NAMES
from tests.servers import postgres
from tests.servers.service import Service
from tests.servers.web import Exchange, Web, status

CHECKOUT = Path(__file__).parents[2]
HEIGHTS = b"time,height\n2026-11-28T05:10,1.31\n2026-11-28T11:42,0.42\n"
TICKET = "ticket-4711"
ADDED = '"tests.datasets.tides"'
URL = "tides://tides?station=Hobart"
HASH = hash_password("x")


def with_tides(directory: Path) -> dict[str, str]:
    """Copy datamover, name the package in the one tuple, and return the environment in which the copy is run."""
    shutil.copytree(CHECKOUT / "datamover", directory / "datamover")  # Compiled, as it is: starts are many.
    page = directory / "datamover/datasets/__init__.py"
    text = page.read_text()
    assert text.count('"datamover.datasets.gbif"') == 1
    page.write_text(text.replace('"datamover.datasets.gbif"', f'"datamover.datasets.gbif", {ADDED}'))
    return {**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{CHECKOUT}"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return with_tides(tmp_path_factory.mktemp("with-tides"))


@dataclass
class Harbour:
    """A service with the dataset, and the server that tells the tides."""

    service: Service
    web: Web
    directory: Path
    head: str
    """The configuration without [tides]."""
    read: str = ""
    """The configuration that the service read last."""

    async def restore(self) -> None:
        """Have everything as it was started, whatever a test did to it."""
        self.web.route("/v1/Hobart.csv", told)
        await self.web.drop()
        for placed in self.archive.iterdir():
            shutil.rmtree(placed)
        self.configure()
        if self.read != self.service.config.read_text():  # Each reload has new engine processes, which cost seconds.
            self.service.config.write_text(self.head)
            await self.reload()
            self.configure()
            assert await self.reload() == {"changed": ["tides"], "needs_restart": []}

    @property
    def archive(self) -> Path:
        """The destination."""
        return self.directory / "archive"

    async def reload(self) -> Any:
        """Have the service read its configuration again."""
        done = await self.ask(lambda mover: mover.service.reload())
        self.read = self.service.config.read_text()
        return done

    def configure(self, **keys: object) -> None:
        """Write the configuration, with these keys of [tides] beside those that are required."""
        ticket = self.directory / "ticket"
        ticket.write_text(f"{TICKET}\n")
        ticket.chmod(0o600)
        tides = {"url": f"{self.web.url}/v1", "ticket_file": str(ticket), **keys}
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in tides.items())
        self.service.config.write_text(f"{self.head}[tides]\n{lines}\n")

    async def ask(self, call: Callable[[Any], Any]) -> Any:
        """Call the service from a thread: the server answers on this one."""
        return await deferToThread(lambda: call(self.service.proxy))

    async def move(self, path: str, url: str = URL) -> dict[str, Any]:
        """Move the dataset into a directory of the destination, and return what its job came to."""
        request = {"source": url, "destination": "archive", "path": path}
        asked = await self.ask(partial(submit, request))
        return dict(await deferToThread(self.service.ended, asked["id"]))


def submit(request: Any, mover: Any) -> Any:
    return mover.jobs.submit(request)


def told(exchange: Exchange) -> None:
    """Tell the tides to whoever has a ticket."""
    if exchange.request.headers.get("authorization") == f"Bearer {TICKET}":
        exchange.answer(200, [("ETag", '"1"')], HEIGHTS)
    else:
        status(403)(exchange)


@pytest_twisted.async_yield_fixture(scope="module")
async def started(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Any:
    directory = tmp_path_factory.mktemp("tides")
    web = Web(reactor)
    web.route("/v1/Hobart.csv", told)
    await web.start()
    tables = (
        f'lease = "3s"\nengine_processes = 2\n[database]\nurl = "{postgres.shared().fresh()}"\n'
        f'[destinations.archive]\nurl = "file://{directory}/archive"\n'
        '[sources]\nallow = ["https://example.org/"]\n'
    )
    service = Service(directory, tables)
    harbour = Harbour(service, web, directory, service.config.read_text())
    harbour.configure()
    harbour.read = service.config.read_text()
    await deferToThread(service.start, environment)
    yield harbour
    await deferToThread(service.stop)
    await web.stop()


@pytest_twisted.async_yield_fixture
async def harbour(started: Harbour) -> Any:
    yield started
    await started.restore()


@pytest_twisted.ensureDeferred
async def test_it_is_moved(harbour: Harbour) -> None:
    """Asked for by its URL, it is made by an engine process of its own and placed whole, whatever [sources] allows."""
    job = await harbour.move("tides/")

    assert job["status"] == "COMPLETED", job
    placed = harbour.archive / "tides"
    assert sorted(path.name for path in placed.iterdir()) == sorted(NAMES)
    assert (placed / NAMES[0]).read_bytes() == HEIGHTS
    files = await harbour.ask(lambda mover: mover.jobs.files(job["id"], {}))
    assert [(one["path"], one["status"]) for one in files] == [(f"tides/{name}", "COMPLETED") for name in NAMES]
    described = json.loads((placed / NAMES[1]).read_text())
    assert described == {"station": "Hobart", "file": f"tides/{NAMES[0]}", "digest": files[0]["digest"]}


@pytest_twisted.ensureDeferred
async def test_it_cannot_be_had(harbour: Harbour) -> None:
    """Where the server refuses, the job fails and no file is placed."""
    harbour.web.route("/v1/Hobart.csv", status(403))
    job = await harbour.move("tides/")

    assert (job["status"], job["error"]["code"]) == ("FAILED", "SOURCE_FORBIDDEN")
    assert not list(harbour.archive.rglob("*.*"))


@pytest_twisted.ensureDeferred
async def test_its_scheme_in_capitals(harbour: Harbour) -> None:
    """The scheme of a URL has no case (RFC 3986, 3.1)."""
    job = await harbour.move("tides/", f"  TIDES{URL.removeprefix('tides')}")
    assert job["status"] == "COMPLETED", job


@pytest_twisted.ensureDeferred
async def test_one_group(harbour: Harbour) -> None:
    """Where the second file cannot be placed, the first is not placed either."""
    taken = harbour.archive / "tides" / NAMES[1]
    taken.mkdir(parents=True)
    job = await harbour.move("tides/")

    assert (job["status"], job["error"]["code"]) == ("FAILED", "DESTINATION_INVALID")
    assert list(taken.parent.iterdir()) == [taken]


@pytest_twisted.ensureDeferred
async def test_its_section_is_read_again(harbour: Harbour) -> None:
    """A reload takes what the section declares to be live, names what it does not, and refuses what cannot be used."""
    other = harbour.directory / "other"
    other.write_text("none\n")
    other.chmod(0o600)
    harbour.configure(ticket_file=str(other), at_once=1)
    reloaded = await harbour.reload()
    assert reloaded == {"changed": ["tides"], "needs_restart": ["tides.at_once"]}
    refused = await harbour.move("tides/")
    assert (refused["status"], refused["error"]["code"]) == ("FAILED", "SOURCE_FORBIDDEN")

    harbour.configure(at_once=33)
    with pytest.raises(Fault, match=r"tides\.at_once = 33: expected at most service\.max_active, 32"):
        await harbour.reload()

    harbour.configure()
    assert await harbour.reload() == {"changed": ["tides"], "needs_restart": []}
    assert (await harbour.move("tides/"))["status"] == "COMPLETED"


@pytest_twisted.ensureDeferred
async def test_its_section_comes_and_goes(harbour: Harbour) -> None:
    """Without the section nobody may ask for it; the line that brings it back is in force at once."""
    harbour.service.config.write_text(harbour.head)
    assert await harbour.reload() == {"changed": ["tides"], "needs_restart": []}
    with pytest.raises(Fault, match=r"source: tides:// datasets are not configured here: add \[tides\]"):
        await harbour.move("tides/")

    harbour.configure(at_once=1)
    assert await harbour.reload() == {"changed": ["tides"], "needs_restart": []}
    assert (await harbour.move("tides/"))["status"] == "COMPLETED"


@pytest_twisted.ensureDeferred
async def test_what_a_request_may_say(harbour: Harbour) -> None:
    """Its own words refuse a URL that it cannot read; a digest is not expected of what is only made now."""
    for request, said in (
        ({"source": "tides://tides?station=7"}, "source: expected the tides at a station such as tides://tides"),
        ({"source": URL, "size": 5}, "size: a dataset is made when it is asked for: leave it out"),
    ):
        whole = {"destination": "archive", "path": "tides/", **request}
        with pytest.raises(Fault) as fault:
            await harbour.ask(partial(submit, whole))
        assert said in fault.value.faultString


# check-config -------------------------------------------------------------------------------------------------


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    path = tmp_path / "ticket"
    path.write_text(TICKET)
    path.chmod(0o600)
    return path


def checked(directory: Path, tides: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Return the status of ``datamover-admin check-config`` and what it says is wrong."""
    file = directory / "datamover.toml"
    file.write_text(f'[service]\ndata_directory = "{directory}/data"\n{tides}')
    command = [sys.executable, "-m", "datamover.admin", "check-config", "--config", str(file)]
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.removeprefix(f"datamover-admin: {file}: ").strip()


CHECKED = [
    ("", None),
    ("at_once = 0", "tides.at_once = 0: expected a whole number above 0"),
    ("at_once = 33", "tides.at_once = 33: expected at most service.max_active, 32"),
    ("pace = 1", "tides.pace: unknown key; see docs/configuration.md for those there are"),
    ('[clients.x]\npassword_hash = "HASH"\nsources = ["tides://"]', None),
    ('[clients.x]\npassword_hash = "HASH"\nsources = ["tide://"]', "clients.x.sources = 'tide://': expected a rule"),
]


@pytest.mark.parametrize(("more", "said"), CHECKED)
def test_check_config(tmp_path: Path, ticket: Path, environment: dict[str, str], more: str, said: str | None) -> None:
    """Its section is checked with the rest of the configuration, in the same words."""
    tides = f'[tides]\nurl = "http://127.0.0.1:1"\nticket_file = "{ticket}"\n{more.replace("HASH", HASH)}'
    code, error = checked(tmp_path, tides, environment)
    assert (code, error.startswith(said or "")) == (0 if said is None else 1, True), error
    assert said is not None or not error


def test_its_secret_file(tmp_path: Path, ticket: Path, environment: dict[str, str]) -> None:
    """A file that it declares to hold a secret is refused where others may read it."""
    ticket.chmod(0o644)
    tides = f'[tides]\nurl = "http://127.0.0.1:1"\nticket_file = "{ticket}"'
    code, error = checked(tmp_path, tides, environment)
    assert code == 1
    assert error.startswith(f"tides.ticket_file: {ticket} has permissions 0644, so others may read or change it")


def test_its_secret_file_is_nobodys_destination(tmp_path: Path, ticket: Path, environment: dict[str, str]) -> None:
    """No destination may hold the file."""
    root = tmp_path / "root"
    root.mkdir()
    kept = ticket.rename(root / "ticket")
    tides = f'[tides]\nurl = "http://127.0.0.1:1"\nticket_file = "{kept}"\n[destinations.x]\nurl = "{root.as_uri()}"'
    code, error = checked(tmp_path, tides, environment)
    assert code == 1
    assert f"holds {kept} (tides.ticket_file)" in error


# What was touched ---------------------------------------------------------------------------------------------


def test_one_name_in_one_tuple(tmp_path: Path, ticket: Path, environment: dict[str, str]) -> None:
    """Nothing of datamover differs but the tuple, by one name; without that there is no such section."""
    copy = Path(environment["PYTHONPATH"].partition(os.pathsep)[0]) / "datamover"
    assert list(differing(filecmp.dircmp(CHECKOUT / "datamover", copy, ignore=["__pycache__"]))) == [
        "datasets/__init__.py"
    ]
    page = (copy / "datasets/__init__.py").read_text()
    assert page.replace(f", {ADDED}", "") == (CHECKOUT / "datamover/datasets/__init__.py").read_text()

    code, error = checked(tmp_path, f'[tides]\nurl = "http://127.0.0.1:1"\nticket_file = "{ticket}"')
    assert (code, error) == (1, f"tides: unknown key; see {CHECKOUT / 'docs/configuration.md'} for those there are")


def differing(compared: filecmp.dircmp[str], below: str = "") -> Iterator[str]:
    """Yield the files that differ, or that one side alone has."""
    for name in (*compared.left_only, *compared.right_only, *compared.diff_files):
        yield f"{below}{name}"
    for name, folder in compared.subdirs.items():
        yield from differing(folder, f"{below}{name}/")
