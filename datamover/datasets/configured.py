"""The datasets of this version, as their packages declare them, and those that a configuration turns on."""

from contextlib import suppress
from importlib import import_module
from typing import Any

from datamover.config.schema import Config, DeclaredSection
from datamover.datasets import DATASETS
from datamover.datasets.base import Dataset
from datamover.datasets.declaration import Declaration
from datamover.errors import ConfigError
from datamover.protocols.http import HttpClient
from datamover.security.secret_files import exposure
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy

DECLARED: tuple[Declaration[Any], ...] = tuple(import_module(f"{package}.dataset").DATASET for package in DATASETS)
CONFIG = Config.declaring({each.name: each.section for each in DECLARED})
"""The model of the whole configuration: what is loaded is checked by it."""


class ConfiguredDatasets:
    """The datasets that a configuration turns on, and the connections to the services that have them."""

    def __init__(
        self, settings: Config, reactor: Any, policy: SourcePolicy, credentials: SourceCredentials, *, file: str
    ) -> None:
        """Open each of them; nothing is connected yet. Raises ConfigError for what cannot be used."""
        opened = [(each, settings.declared[each.name]) for each in DECLARED if each.name in settings.declared]
        for each, section in opened:
            _check_secret_files(section, f"{file}: {each.name}")
        services = [url for each, section in opened for url in each.services(section)]
        self._http = HttpClient(
            reactor, settings.http, settings.transfers, policy.trusting(services), credentials, file=file
        )
        self.by_scheme: dict[str, Dataset] = {
            each.name: each.open(section, self._http, reactor) for each, section in opened
        }

    async def close(self) -> None:
        """Drop every connection; completes when they are gone."""
        await self._http.close()


def _check_secret_files(section: DeclaredSection, here: str) -> None:
    """Raise ConfigError for a secret file of a section that is there, and that others may read."""
    for key in sorted(section.secret_files):
        path = getattr(section, key)
        with suppress(OSError):  # It may come yet; who needs it says so.
            if path is not None and (reason := exposure(path, path.stat().st_mode)) is not None:
                raise ConfigError(f"{here}.{key}: {reason}")
