"""What the tests of the Atlas's dataset share: a server, the dataset that asks it, and what came of that."""

import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from datamover.config import schema
from datamover.datasets.ala.dataset import Ala
from datamover.datasets.ala.section import AlaSection
from datamover.datasets.base import MadeDataset, Subject
from datamover.errors import DataMoverError
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from tests.datasets.bench import TestBench
from tests.servers.ala import EMAIL, LSID, FakeAla

TARGETS = ("ALA/ala_occurrence.csv", "ALA/ala_metadata.json", "ALA/ala_dataset.json")


class Hasty:
    """A clock that notes how long it is asked to wait, and does not wait."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def seconds(self) -> float:
        return reactor.seconds()

    def callLater(self, delay: float, function: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N802
        self.pauses.append(delay)
        return reactor.callLater(0, function, *arguments, **named)


@asynccontextmanager
async def atlas(**settings: Any) -> AsyncIterator[tuple[FakeAla, Ala]]:
    """A fake Atlas that knows a taxon, and the dataset that asks it."""
    server = FakeAla(reactor)
    await server.start()
    server.know()
    try:
        async with asking(server, **settings) as ala:
            yield server, ala
    finally:
        await server.stop()


@asynccontextmanager
async def asking(
    server: FakeAla, *, trust: tuple[str, ...] = (), clock: Any = reactor, **settings: Any
) -> AsyncIterator[Ala]:
    """The dataset, asking a server; ``settings`` are keys of [ala]."""
    given = {
        "destination": "archive",
        "email": EMAIL,
        "occurrences_url": server.occurrences_url,
        "species_url": server.species_url,
        "poll_interval": 0.01,
        **settings,
    }
    values = AlaSection.model_validate(given)
    policy = SourcePolicy.from_config(schema.Sources())
    http = HttpClient(
        reactor,
        schema.Http(),
        schema.Transfers(connect_timeout=5.0, idle_timeout=5.0),
        policy.trusting([values.occurrences_url, values.species_url, *trust]),
        SourceCredentials(),
    )
    try:
        yield Ala(values, http, clock, clock.seconds)
    finally:
        await http.close()


def subject(lsid: str = LSID) -> Subject:
    """Return a taxon, as the dataset is asked for it."""
    return Subject("ala", lsid)


async def refused(ala: Ala, bench: TestBench, lsid: str = LSID) -> DataMoverError:
    """Return the error with which the dataset is not made."""
    with pytest.raises(DataMoverError) as caught:
        await ala.make(subject(lsid), bench)
    assert caught.value.message.isprintable()
    return caught.value


def rows_of(made: MadeDataset) -> list[list[str]]:
    """Return the occurrences, header and all."""
    return list(csv.reader(io.StringIO(made.paths[0].read_text("utf-8"), newline="")))


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory, in order."""
    return sorted(path.name for path in directory.iterdir())
