"""Occurrences from ALA, as the portal asks for them: the whole service, and an atlas of the tests' own."""

import csv
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.integration.test_service import destinations
from tests.servers import postgres
from tests.servers.ala import EMAIL, GOOD_ROWS, LSID, FakeAla, records_csv, records_zip
from tests.servers.service import PATIENCE, Service
from tests.servers.sshd import Sshd
from tests.waiting import until

NAMES = (f"{LSID}.csv", f"{LSID}.json", f"{LSID}.dataset.json")


class Portal:
    """What the original's portal does: ask, and poll for as long as it is PENDING or DOWNLOADING."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.seen: list[str] = []

    async def ask(self, call: Callable[[Any], Any]) -> Any:
        """Call the service from a thread: the atlas answers on this one."""
        return await deferToThread(lambda: call(self.service.proxy))

    async def pull(self, *arguments: Any) -> dict[str, Any]:
        told = await self.ask(lambda mover: mover.pullOccurrenceFromALA(*arguments))
        if "id" not in told:
            return dict(told)
        assert told == {"id": told["id"], "status": "PENDING"}
        return await self.poll(told["id"])

    async def poll(self, job: int) -> dict[str, Any]:
        deadline = reactor.seconds() + PATIENCE
        while True:
            told = await self.ask(lambda mover: mover.checkALAJobStatus(job))
            if told["status"] not in self.seen:
                self.seen.append(told["status"])
            if told["status"] not in ("PENDING", "DOWNLOADING"):
                return dict(told)
            assert reactor.seconds() < deadline, told
            await deferLater(reactor, 0.05)


@pytest_twisted.async_yield_fixture
async def ala() -> Any:
    ala = FakeAla(reactor)
    ala.know(LSID)
    await ala.start()
    yield ala
    await ala.stop()


@pytest.fixture
def sshd(open_directory: Path) -> Any:
    (open_directory / "ssh").mkdir()
    sshd = Sshd(open_directory / "ssh")
    sshd.start()
    yield sshd
    sshd.stop()


@pytest_twisted.async_yield_fixture
async def portal(open_directory: Path, ala: FakeAla, sshd: Sshd) -> Any:
    tables = f"""lease = "3s"
[database]
url = "{postgres.shared().fresh()}"
{destinations(open_directory, sshd)}
[ala]
destination = "archive"
path = "ALA"
occurrences_url = "{ala.occurrences_url}"
species_url = "{ala.species_url}"
email = "{EMAIL}"
poll_interval = "50ms"
[destinations.slow]
url = "file://{open_directory}/slow"
bandwidth = "10MB/s"
"""
    service = Service(open_directory, tables)
    await deferToThread(service.start)
    yield Portal(service)
    await deferToThread(service.stop)


@pytest_twisted.ensureDeferred
async def test_pull(portal: Portal, ala: FakeAla, open_directory: Path) -> None:
    """The portal asks for a taxon, polls, and finds three files that fit each other."""
    told = await portal.pull(LSID)

    assert told == {"id": told["id"], "status": "COMPLETED"}
    assert portal.seen[-1] == "COMPLETED"
    assert set(portal.seen) <= {"PENDING", "DOWNLOADING", "COMPLETED"}
    occurrences, species, description = (open_directory / "archive/ALA" / name for name in NAMES)
    with occurrences.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["species", "lon", "lat", "uncertainty", "date", "year", "month"]
    assert rows[0]["species"] == "Macropus rufus"
    assert json.loads(species.read_text())["taxonConcept"]["guid"] == LSID
    about = json.loads(description.read_text())
    assert about["num_occurrences"] == len(rows)
    files = await portal.ask(lambda mover: mover.jobs.files(told["id"], {}))
    listed = [(Path(one["url"]).name, one["dataset_type"], one["digest"]) for one in about["files"]]
    assert listed == [
        (NAMES[0], "occurrence", files[0]["digest"]),
        (NAMES[1], "attribution", files[1]["digest"]),
    ]
    assert [one["status"] for one in files] == ["COMPLETED"] * 3


@pytest_twisted.ensureDeferred
async def test_pull_to_another_destination(portal: Portal, sshd: Sshd) -> None:
    """The second argument names another registered destination; an unknown one is refused."""
    told = await portal.pull(LSID, "visualiser")
    refused = await portal.pull(LSID, "nowhere")

    assert told["status"] == "COMPLETED"
    assert sorted(path.name for path in (sshd.root / "ALA").iterdir()) == sorted(NAMES)
    assert refused == {"status": "REJECTED", "reason": "Unknown destination 'nowhere'"}


@pytest_twisted.ensureDeferred
async def test_as_a_source_among_others(portal: Portal, ala: FakeAla, sshd: Sshd, open_directory: Path) -> None:
    """A dataset is a source of move, alone or mixed with files, zipped or not."""
    (open_directory / "archive").mkdir()
    (open_directory / "archive/climate.tif").write_bytes(b"climate")
    sources = [f"ala://ala?lsid={LSID}", "scp://archive/climate.tif"]
    plain = await portal.ask(lambda mover: mover.move(sources, "scp://visualiser/plain/"))
    zipped = await portal.ask(lambda mover: mover.move(sources, "scp://visualiser/zipped/", True))
    for job in (plain, zipped):
        ended = await deferToThread(portal.service.ended, job["id"])
        assert ended["status"] == "COMPLETED", ended

    names = ["ala_dataset.json", "ala_metadata.json", "ala_occurrence.csv", "climate.tif"]
    assert sorted(path.name for path in (sshd.root / "plain").iterdir()) == names
    with zipfile.ZipFile(sshd.root / f"zipped/move-job-{zipped['id']}.zip") as archive:
        assert sorted(archive.namelist()) == [*(f"data/{name}" for name in names), "manifest-md5.txt"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ala: ala.fail("ask", 403), "403"),
        (lambda ala: setattr(ala, "archive", b"no zip at all"), "zip"),
        (lambda ala: setattr(ala, "archive", b""), "zero bytes"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_it_cannot_be_had(
    portal: Portal, ala: FakeAla, open_directory: Path, change: Callable[[FakeAla], None], reason: str
) -> None:
    """What ALA refuses, or sends and is of no use, is a FAILED job with the reason, and nothing is placed."""
    change(ala)
    told = await portal.pull(LSID)

    assert told["status"] == "FAILED"
    assert told["reason"].startswith(f"Move has failed for job with id {told['id']}. Reason: ")
    assert reason in told["reason"]
    assert not (open_directory / "archive").exists() or not list((open_directory / "archive").rglob("*.*"))


@pytest_twisted.ensureDeferred
async def test_unknown_taxon(portal: Portal) -> None:
    """A taxon that ALA does not know fails with ALA's word; an LSID that is none is refused at once."""
    unknown = await portal.pull("urn:lsid:biodiversity.org.au:afd.taxon:nobody")
    refused = await portal.pull("kangaroo")

    assert unknown["status"] == "FAILED"
    assert refused == {"status": "REJECTED", "reason": "Missing or incorrect parameter 'source ALA LSID'"}


@pytest.mark.parametrize("step", ["status", "download"])
@pytest_twisted.ensureDeferred
async def test_killed(portal: Portal, ala: FakeAla, open_directory: Path, step: str) -> None:
    """Killed while ALA prepares or sends, and started again, the service goes on with the same request at ALA."""
    ala.delay(step, 1.0)
    asked = await portal.ask(lambda mover: mover.pullOccurrenceFromALA(LSID))
    await until(lambda: ala.count(step))
    await deferToThread(portal.service.kill)
    assert not list((open_directory / "archive").rglob("*.dataset.json"))
    ala.heal()
    await deferToThread(portal.service.start)
    told = await portal.poll(asked["id"])

    assert told["status"] == "COMPLETED", told
    assert ala.count("ask") == 1
    assert sorted(path.name for path in (open_directory / "archive/ALA").iterdir()) == sorted(NAMES)


@cache
def many_records() -> bytes:
    """Return an archive that takes seconds to make, and to clean."""
    return records_zip(records_csv(GOOD_ROWS * 200_000))


@pytest.mark.parametrize("stage", ["cleaning", "moving"])
@pytest_twisted.ensureDeferred
async def test_killed_later(portal: Portal, ala: FakeAla, open_directory: Path, stage: str) -> None:
    """Killed while it cleans, or moves what it made, the service asks ALA for nothing new, and places all or none."""
    ala.archive = many_records()
    asked = await portal.ask(lambda mover: mover.pullOccurrenceFromALA(LSID, "slow"))
    deadline = reactor.seconds() + PATIENCE
    while not (await portal.ask(lambda mover: mover.jobs.status(asked["id"]))).get("stage", "").startswith(stage):
        assert reactor.seconds() < deadline
    await deferToThread(portal.service.kill)
    assert not list((open_directory / "slow").rglob(f"{LSID}*"))
    await deferToThread(portal.service.start)
    told = await portal.poll(asked["id"])

    assert told["status"] == "COMPLETED", told
    assert ala.count("ask") == 1
    placed = open_directory / "slow/ALA"
    assert sorted(path.name for path in placed.iterdir()) == sorted(NAMES)
    assert json.loads((placed / NAMES[2]).read_text())["num_occurrences"] == len(GOOD_ROWS) * 200_000


@pytest_twisted.ensureDeferred
async def test_cancelled(portal: Portal, ala: FakeAla, open_directory: Path) -> None:
    """Cancelling a pull cancels it at ALA too."""
    ala.delay("status", 5.0)
    asked = await portal.ask(lambda mover: mover.pullOccurrenceFromALA(LSID))
    await until(lambda: ala.count("status"))
    await portal.ask(lambda mover: mover.jobs.cancel(asked["id"]))
    told = await portal.poll(asked["id"])

    assert told["status"] == "FAILED"
    assert told["reason"].endswith("The job was cancelled.")
    await until(lambda: ala.count("cancel"))
    assert not list((open_directory / "archive").rglob("*.*"))
