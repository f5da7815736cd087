"""Find every mistake in a configuration that shows when its runtime is built."""

from collections.abc import Callable, Iterator
from typing import Any

from datamover.config.schema import Config
from datamover.datasets.configured import ConfiguredDatasets
from datamover.errors import ConfigError, Problems
from datamover.protocols.http import HttpClient
from datamover.registry.apart import check_apart
from datamover.registry.destinations import Registry
from datamover.runtime.snapshot import check_hashes, check_secrets, narrowed
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy

Check = Callable[[Config], object]
"""Raises ConfigError."""


def find_mistakes(settings: Config, reactor: Any, *more: Check) -> list[str]:
    """Return a sentence for each mistake; ``more`` are checks beside those of the runtime. Nothing is connected to."""
    problems = Problems()
    for check in (*_checks(settings, reactor), *more):
        with problems.collect():
            check(settings)
    return problems.found


def load_whole(read: Callable[[], Config], reactor: Any, *more: Check) -> Config:
    """Return what ``read`` returns; where it raises ConfigError, raise one that tells later mistakes as well."""
    try:
        return read()
    except ConfigError as error:
        if error.usable is None:
            raise
        raise ConfigError.of([*error.problems, *find_mistakes(error.usable, reactor, *more)]) from None


def _checks(settings: Config, reactor: Any) -> Iterator[Check]:
    file = str(settings.path or "the built-in configuration")

    def one_destination(name: str) -> Check:
        def check(settings: Config) -> None:
            one = settings.model_copy(update={"destinations": {name: settings.destinations[name]}})
            check_apart(Registry.from_config(one, reactor).directories, one, file)

        return check

    yield check_secrets
    yield lambda settings: SourcePolicy.from_config(settings.sources, file=file)
    yield lambda settings: SourceCredentials.from_config(settings.sources, file=file)
    yield lambda settings: HttpClient(
        reactor, settings.http, settings.transfers, SourcePolicy(), SourceCredentials(), file=file
    )
    yield lambda settings: ConfiguredDatasets(settings, reactor, SourcePolicy(), SourceCredentials(), file=file)
    yield narrowed
    yield check_hashes
    yield from map(one_destination, settings.destinations)
