"""A GBIF of the tests' own that knows the red kangaroo, and a dataset made from it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from datamover.datasets.base import Dataset, MadeDataset
from datamover.datasets.gbif.client import Patience
from datamover.datasets.gbif.dataset import NAMES, Gbif
from datamover.datasets.gbif.section import GbifSection
from datamover.errors import DataMoverError
from datamover.protocols.http import HttpClient
from tests.datasets.bench import TestBench
from tests.protocols.reading import reading
from tests.servers import gbif as fake
from tests.servers.gbif import DATASET, record

TAXON = "2440012"
URL = f"gbif://gbif?taxonKey={TAXON}"
SEARCH = "/occurrence/search"
OTHER = "4fa7b334-ce0d-4e88-aaae-2e0c138d049e"
TARGETS = tuple(f"roos/{name}" for name in NAMES)
HASTY = Patience(first_pause=0.01)


@asynccontextmanager
async def serving(*, records: Sequence[dict[str, Any]] = (), delay: float = 0.0) -> AsyncIterator[fake.Gbif]:
    """A GBIF that knows the red kangaroo and one dataset."""
    gbif = fake.Gbif(reactor, delay=delay)
    gbif.taxon(TAXON, "Macropus rufus", records=records, names=[{"vernacularName": "Red Kangaroo", "language": "eng"}])
    gbif.dataset(DATASET, "iNaturalist (2026). Research-grade Observations.")
    await gbif.start()
    try:
        yield gbif
    finally:
        await gbif.stop()


def dataset_of(gbif: fake.Gbif, http: HttpClient, **settings: Any) -> Gbif:
    return Gbif(GbifSection(url=gbif.url, **settings), http, reactor, time.time, patience=HASTY)


async def made(gbif: fake.Gbif, directory: Path, **settings: Any) -> tuple[MadeDataset, TestBench]:
    """Make the dataset once."""
    async with reading() as http:
        dataset: Dataset = dataset_of(gbif, http, **settings)
        bench = TestBench(directory, TARGETS)
        return await dataset.make(dataset.subject(URL), bench), bench


async def failed(gbif: fake.Gbif, directory: Path) -> DataMoverError:
    """Return the error with which the dataset is not made."""
    with pytest.raises(DataMoverError) as caught:
        await made(gbif, directory)
    return caught.value


def many(count: int) -> list[dict[str, Any]]:
    return [record(number, number / 1000, -number / 2000) for number in range(count)]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
