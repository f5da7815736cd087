"""Find ``datamover.toml`` and read it into frozen values."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datamover.config.checks import check_whole
from datamover.config.documentation import documentation
from datamover.config.layout import Layout
from datamover.config.pruning import Location, leave_out, stand_in
from datamover.config.schema import Config, DestinationTable, Service
from datamover.config.types import mistakes
from datamover.errors import ConfigError, Problems

SYSTEM_FILE = Path("/etc/datamover/datamover.toml")
LOCAL_FILE = Path("datamover.toml")
ENVIRONMENT_VARIABLE = "DATAMOVER_CONFIG"
LOCAL = "local"
"""The destination of a configuration that names none."""
_ROUNDS = 5
"""Rounds in which mistakes are taken out of a file, since others may show without them."""


def find(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file to read: the named one, the environment's, the local, the system's, or None."""
    if explicit:
        return Path(explicit)
    if environment.get(ENVIRONMENT_VARIABLE):
        return Path(environment[ENVIRONMENT_VARIABLE])
    return next((path for path in (LOCAL_FILE, SYSTEM_FILE) if _is_there(path)), None)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Its directory may not be entered: reading the file says so.
        return True


def load(path: Path | None, model: type[Config] = Config) -> Config:
    """Read one file; None stands for an empty one. Without destinations of its own it has one, ``local``.

    ``model`` has the sections that other packages declare (``Config.declaring``). Raises ConfigError, which tells
    every mistake; its ``usable`` is what is left of the configuration without them.
    """
    if path is None:
        return _with_local(model(service=Service()))
    tables = {**_read(path), "path": path.absolute()}
    file = str(path)
    try:
        config = model.model_validate(tables)
    except ValidationError as error:
        raise _refusal(model, tables, error, file) from None
    config = _with_local(config)
    try:
        check_whole(config, file)
    except ConfigError as error:
        error.usable = config
        raise
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a readable configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    if "path" in tables:
        raise ConfigError(f"{path}: path: unknown key; see {documentation('configuration.md')} for those there are")
    return tables


def has_built_in_local(config: Config) -> bool:
    """Tell whether a configuration names no destinations and therefore has ``local``."""
    return config.destinations == {LOCAL: built_in_local(config.service)}


def _with_local(config: Config) -> Config:
    """Return a configuration without destinations with ``local``, a directory below its data directory."""
    if config.destinations:
        return config
    return config.model_copy(update={"destinations": {LOCAL: built_in_local(config.service)}})


def built_in_local(service: Service) -> DestinationTable:
    """Return ``local``, a directory in the data directory."""
    url = Layout(service.data_directory).files.as_uri()
    return DestinationTable(url=url, description="Files on this machine")


def _refusal(model: type[Config], tables: Mapping[str, Any], error: ValidationError, file: str) -> ConfigError:
    """Return a ConfigError that tells every mistake of tables that are not valid, those across sections included."""
    found = mistakes(model, error, file=file)
    problems = Problems(found.values())
    rest = _validated(model, stand_in, tables, found)
    if rest is not None:
        with problems.collect():
            check_whole(rest, file)
    refusal = ConfigError.of(problems.found)
    refusal.usable = _validated(model, leave_out, tables, found)
    return refusal


def _validated(model: type[Config], prune: Any, tables: Mapping[str, Any], at: Iterable[Location]) -> Config | None:
    """Return the configuration without the mistakes, None where that leaves none that is valid."""
    known = list(at)
    for _ in range(_ROUNDS):
        try:
            return _with_local(model.model_validate(prune(tables, known)))
        except ValidationError as error:
            known = [*known, *(tuple(each["loc"][:-1] or each["loc"]) for each in error.errors(include_url=False))]
    return None
