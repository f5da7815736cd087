"""The datasets that the configuration turns on: named here, and nowhere else."""

import time
from typing import Any

from datamover.config.schema import Config
from datamover.datasets.ala.dataset import Ala
from datamover.datasets.base import Dataset
from datamover.datasets.gbif.dataset import Gbif
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy


class Datasets:
    """Every dataset of this installation, and the connections to the services that have them."""

    def __init__(
        self, settings: Config, reactor: Any, policy: SourcePolicy, credentials: SourceCredentials, *, file: str
    ) -> None:
        """Prepare; nothing is connected yet. Raises ConfigError for what cannot be used."""
        bases = []
        if settings.ala is not None:
            bases += [settings.ala.occurrences_url, settings.ala.species_url]
        if settings.gbif is not None:
            bases.append(settings.gbif.url)
        self._http = HttpClient(
            reactor, settings.http, settings.transfers, policy.trusting(bases), credentials, file=file
        )
        self.by_scheme: dict[str, Dataset] = {}
        if settings.ala is not None:
            self.by_scheme["ala"] = Ala(settings.ala, self._http, reactor, time.time)
        if settings.gbif is not None:
            self.by_scheme["gbif"] = Gbif(settings.gbif, self._http, reactor, time.time)

    async def close(self) -> None:
        """Drop every connection; completes when they are gone."""
        await self._http.close()
