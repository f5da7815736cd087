"""The datasets of this version, as their packages declare them, and those that a configuration turns on."""

from importlib import import_module
from typing import Any

from datamover.config.schema import Config
from datamover.datasets import DATASETS
from datamover.datasets.base import Dataset
from datamover.datasets.declaration import Declaration
from datamover.protocols.http import HttpClient
from datamover.security.secret_files import secret_options
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy

DECLARED: tuple[Declaration[Any], ...] = tuple(import_module(f"{package}.dataset").DATASET for package in DATASETS)
CONFIG = Config.declaring({each.name: each.section for each in DECLARED})
"""The model of the whole configuration, which the file is validated against."""
SECRET_KEYS = frozenset(f"{each.name}.{key}" for each in DECLARED for key in secret_options(each.section))
"""The keys of their sections that name files that hold secrets."""


class ConfiguredDatasets:
    """The datasets that a configuration turns on, and the connections to their services."""

    def __init__(
        self, settings: Config, reactor: Any, policy: SourcePolicy, credentials: SourceCredentials, *, file: str
    ) -> None:
        """Open each of them; nothing is connected yet. Raises ConfigError for unusable settings."""
        opened = [(each, settings.declared[each.name]) for each in DECLARED if each.name in settings.declared]
        services = [url for each, section in opened for url in each.services(section)]
        self._http = HttpClient(
            reactor, settings.http, settings.transfers, policy.trusting(services), credentials, file=file
        )
        self.by_scheme: dict[str, Dataset] = {
            each.name: each.open(section, self._http, reactor) for each, section in opened
        }

    async def close(self) -> None:
        """Drop every connection; completes when they are closed."""
        await self._http.close()
