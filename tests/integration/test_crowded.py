"""A service that has its hands full: archives, datasets and disks that hang keep nobody waiting who only asks."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from datamover.security.passwords import hash_password
from tests.servers import postgres
from tests.servers.gbif import DATASET, Gbif, record
from tests.servers.mounts.mount import Mount, mounted
from tests.servers.service import Service

MIB = 2**20
ARCHIVES = 50
MEMBERS, MEMBER = 4, 3 * MIB
TAXA, RECORDS = 5, 1200
NAMES = ("portal", *(f"newcomer-{number}" for number in range(8)))
UNDER_WAY = ("PENDING", "PREPARING", "IN_PROGRESS")
STATUS, FIRST_LOGIN = 1.0, 5.0
"""Seconds that an answer may take here: ten times and five times what it is to take."""

_TABLES = """\
max_active = 100
[database]
url = "{database}"
[destinations.archive]
url = "{archive}"
max_active = 60
[destinations.feed]
url = "{feed}"
[destinations.hung]
url = "{mount}/one"
max_active = 16
[destinations.hung-too]
url = "{mount}/two"
max_active = 16
[gbif]
url = "{gbif}"
[sources]
allow = ["http://127.0.0.1:*/"]
[transfers]
idle_timeout = "10m"
"""


@pytest_twisted.async_yield_fixture
async def gbif() -> Any:
    gbif = Gbif(reactor)
    gbif.dataset(DATASET, "Sightings (2026).")
    for taxon in range(TAXA):
        records = [record(number, 133.9, -23.7) for number in range(RECORDS)]
        gbif.taxon(f"24400{taxon}", "Macropus rufus", records=records)
    await gbif.start()
    yield gbif
    await gbif.stop()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    with mounted(tmp_path / "mount") as mount:
        yield mount


@pytest.fixture
def service(tmp_path: Path, gbif: Gbif, mount: Mount) -> Iterator[Service]:
    archive, feed = tmp_path / "archive", tmp_path / "feed"
    archive.mkdir()
    feed.mkdir()
    (feed / "file").write_bytes(os.urandom(MEMBER))
    for number in range(MEMBERS):
        (archive / f"member-{number}").write_bytes(os.urandom(MEMBER))
    tables = _TABLES.format(
        archive=archive.as_uri(), feed=feed.as_uri(), mount=mount.url, gbif=gbif.url, database=postgres.shared().fresh()
    )
    for name in NAMES:
        tables += f'[clients.{name}]\npassword_hash = "{hash_password(name)}"\n'
    service = Service(tmp_path, tables)
    yield service
    mount.go_on()
    service.kill()


class Caller:
    """One client, on a connection of its own; it logs in with its first call."""

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self.proxy: Any = ServerProxy(service.url.replace("://", f"://{name}:{name}@"), allow_none=True)
        self.seconds: list[float] = []
        """That answers took."""

    def state(self, job: int) -> str:
        """Ask for the state of a job."""
        began = self._service.moment()
        told = self.proxy.jobs.status(job)
        self.seconds.append(self._service.since(began))
        return str(told["status"])

    def log_in(self) -> None:
        began = self._service.moment()
        self.proxy.service.status()
        self.seconds.append(self._service.since(began))

    def close(self) -> None:
        self.proxy("close")()


def fill(portal: Any) -> list[int]:
    """Ask for all that is to keep the service busy; return the jobs that come to an end."""
    fed = {"destination": "feed", "path": "file"}
    hung = [{"source": fed, "destination": name, "path": f"{n}"} for n in range(16) for name in ("hung", "hung-too")]
    portal.jobs.submit({"files": hung})
    jobs = []
    for number in range(ARCHIVES):
        files = [
            {
                "source": {"destination": "archive", "path": f"member-{each}"},
                "destination": "archive",
                "path": f"out/{number}.zip",
            }
            for each in range(MEMBERS)
        ]
        jobs.append(portal.jobs.submit({"files": files, "archive": "zip"})["id"])
        if number < TAXA:
            taxon = f"gbif://gbif?taxonKey=24400{number}"
            dataset = {"source": taxon, "destination": "archive", "path": f"taxon-{number}/"}
            jobs.append(portal.jobs.submit(dataset)["id"])
    return jobs


def measure(service: Service, mount: Mount) -> tuple[list[float], list[float], list[str]]:
    """Return how long answers took while all was under way, how long first logins did, and how the jobs ended."""
    portal, *newcomers = (Caller(service, name) for name in NAMES)
    portal.proxy.service.status()
    mount.stall()
    states = dict.fromkeys(fill(portal.proxy), "PENDING")
    waiting = list(newcomers)
    while left := [job for job, state in states.items() if state in UNDER_WAY]:
        states.update((job, portal.state(job)) for job in left)
        if waiting:
            waiting.pop().log_in()
    mount.go_on()
    for caller in (portal, *newcomers):
        caller.close()
    return portal.seconds, [seconds for caller in newcomers for seconds in caller.seconds], list(states.values())


@pytest_twisted.ensureDeferred
async def test_answers_while_all_is_busy(service: Service, mount: Mount) -> None:
    """A status comes at once, and a first login soon, beside fifty archives, datasets and disks that do not answer."""
    await deferToThread(service.start_behind_a_login)
    answers, logins, ended = await deferToThread(measure, service, mount)
    answers.sort()
    latest = answers[int(0.99 * len(answers))]
    told = (
        f"{len(answers)} answers: half within {1000 * answers[len(answers) // 2]:.0f} ms, 99 of 100 within "
        f"{1000 * latest:.0f} ms; {len(logins)} first logins within {1000 * max(logins):.0f} ms"
    )
    print(told)
    assert set(ended) == {"COMPLETED"}
    assert len(answers) >= len(ended)
    assert latest < STATUS, told
    assert max(logins) < FIRST_LOGIN, told
