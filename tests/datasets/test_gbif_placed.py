"""GBIF's occurrences by the engine: asked for as any dataset is, made, and placed as one group."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover.datasets.gbif.client import Patience
from datamover.datasets.gbif.dataset import NAMES, Gbif
from datamover.datasets.gbif.section import GbifSection
from datamover.errors import RequestTooLarge
from datamover.jobs.values import Naming, NewFile, State
from datamover.protocols.http import HttpClient
from datamover.requests.datasets import Datasets
from datamover.requests.files import Rules
from datamover.requests.jobs import checking, finish
from datamover.web.url import WebUrl
from tests.engine.rig import Rig, parts
from tests.servers import gbif as fake
from tests.servers.gbif import DATASET, record
from tests.servers.web import status

URL = "gbif://gbif?taxonKey=2440012"
HASTY = Patience(tries=2, first_pause=0.01)


@pytest_twisted.async_yield_fixture
async def gbif() -> Any:
    gbif = fake.Gbif(reactor)
    gbif.taxon("2440012", "Macropus rufus", records=[record(1, 133.9, -23.7), record(2, 999, 0)])
    gbif.dataset(DATASET, "Sightings (2026).")
    await gbif.start()
    yield gbif
    await gbif.stop()


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, gbif: fake.Gbif) -> Any:
    (tmp_path / "archive").mkdir()
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": f"faulty://{tmp_path}/archive"}})
    assert isinstance(rig.registry.http, HttpClient)
    rig.datasets["gbif"] = Gbif(GbifSection(url=gbif.url), rig.registry.http, reactor, time.time, patience=HASTY)
    yield rig
    await rig.close()


def files(rig: Rig, path: str = "roos") -> list[NewFile]:
    """Return the files that the source of a request stands for."""
    datasets = Datasets(rig.datasets)
    source = datasets.source(URL, "source")
    return datasets.expanded(NewFile(source, "archive", path, Naming.INTO), archive=False)


@pytest_twisted.ensureDeferred
async def test_each_file_of_a_dataset_counts(rig: Rig) -> None:
    """A request may have as many files as ``[limits] files`` allows, those of its datasets included."""
    request = {"files": [{"source": URL, "destination": "archive", "path": f"{number}/"} for number in range(3)]}
    rules = Rules("portal", {"archive": 255}, None, WebUrl.parse, 12, 5, datasets=Datasets(rig.datasets))
    assert len(finish(checking(request, rules)).files) == 12
    with pytest.raises(RequestTooLarge, match=r"^files\[2\]: more than 11 files, those of datasets included"):
        finish(checking(request, replace(rules, max_files=11)))


@pytest_twisted.ensureDeferred
async def test_placed(rig: Rig, gbif: fake.Gbif, tmp_path: Path) -> None:
    """The four files are placed in their order, the description last, and it describes the others, not itself."""
    order: list[str] = []

    async def note(operation: str, path: str) -> None:
        if operation == "place":
            order.append(path)

    rig.faulty.before = note
    await rig.engine()
    job, told = await rig.moved(*files(rig))

    assert job.state is State.COMPLETED, job.error
    assert order == [f"roos/{name}" for name in NAMES]
    description = json.loads((tmp_path / "archive/roos/gbif_dataset.json").read_bytes())
    listed = [(one["url"], one["size"], one["digest"]) for one in description["files"]]
    assert listed == [(path, one.size, one.digest) for path, one in zip(order[:3], told[:3], strict=True)]
    made = next(event for event in await rig.store.events(job=job.id, limit=100) if event.kind == "made")
    assert made.details["dropped"] == {"out of range": 1}
    assert not parts(tmp_path)
    assert not list((tmp_path / "staging").glob("*/*"))


@pytest_twisted.ensureDeferred
async def test_datasets_of_one_owner_leave_others_a_place(rig: Rig) -> None:
    """An owner whose datasets take long to be cleaned has half of the places; another's is cleaned meanwhile."""
    places = rig.pools.datasets.places
    for _ in range(2):
        await places.take("greedy")
    await rig.engine()
    waits = await rig.ask(*files(rig), owner="greedy")
    while not len(places):
        await deferLater(reactor, 0.01, lambda: None)
    job, _ = await rig.moved(*files(rig, "others"), owner="other")
    assert job.state is State.COMPLETED, job.error
    assert not (await rig.store.job(waits)).state.terminal
    places.give("greedy")
    assert (await rig.ended(waits)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_tried_again(rig: Rig, gbif: fake.Gbif, tmp_path: Path) -> None:
    """Where GBIF fails for longer than it is waited for, the next attempt makes the dataset."""
    gbif.fault(f"/dataset/{DATASET}", *[status(502)] * HASTY.tries)
    await rig.engine()
    job, _ = await rig.moved(*files(rig))
    assert job.state is State.COMPLETED, job.error
    assert "retrying" in await rig.kinds(job.id)
    assert len(list((tmp_path / "archive/roos").iterdir())) == 4


@pytest_twisted.ensureDeferred
async def test_nothing_is_placed(rig: Rig, gbif: fake.Gbif, tmp_path: Path) -> None:
    """A dataset that cannot be made fails the job with its reason, and nothing is placed."""
    gbif.pages(lambda page: page.update(count=100_001))
    await rig.engine()
    job, _ = await rig.moved(*files(rig))
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "DATASET_INVALID"
    assert "GBIF has 100,001 occurrences" in job.error["message"]
    assert not list((tmp_path / "archive").iterdir())
