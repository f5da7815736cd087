"""Find ``datamover.toml`` and read it into frozen values."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from datamover.config.checks import check_whole
from datamover.config.layout import Layout
from datamover.config.schema import Config, DestinationTable, Service
from datamover.config.types import check_table
from datamover.errors import ConfigError

SYSTEM_FILE = Path("/etc/datamover/datamover.toml")
LOCAL_FILE = Path("datamover.toml")
ENVIRONMENT_VARIABLE = "DATAMOVER_CONFIG"


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
    """Read one file, or, with None, return the built-in configuration: one destination, ``local``, and loopback only.

    ``model`` has the sections that other packages declare (``Config.declaring``). Raises ConfigError.
    """
    if path is None:
        service = Service()
        local = DestinationTable(url=Layout(service.data_directory).files.as_uri(), description="Files on this machine")
        return model(service=service, destinations={"local": local})
    try:
        text = path.read_bytes().decode("utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a readable configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    if "path" in tables:
        raise ConfigError(f"{path}: path: unknown key; see docs/configuration.md for those there are")
    config = check_table(model, {**tables, "path": path.absolute()}, file=str(path))
    check_whole(config, str(path))
    return config
