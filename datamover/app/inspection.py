"""Look at the files and directories that a configuration names, with the rights of the user who asks."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from datamover.config.schema import Config
from datamover.config.types import named_files
from datamover.errors import ConfigError
from datamover.protocols import PLACES
from datamover.protocols.tls import options as tls_options
from datamover.security.directories import user_shown

_OPENED_ELSEWHERE = frozenset({"http.ca_file", "tls.certificate_file", "tls.key_file", "tls.client_ca_file"})
"""Keys of files that the other checks of a configuration read."""


def check_named(settings: Config) -> None:
    """Raise ConfigError for each file that cannot be read and each directory that cannot be written or made."""
    file = str(settings.path or "the built-in configuration")
    problems = [f"{file}: {sentence}" for sentence in (*_files(settings), *_directories(settings))]
    if problems:
        raise ConfigError.of(problems)


def _files(settings: Config) -> Iterator[str]:
    mistaken = _mistaken(settings)
    for key, path in named_files(settings):
        if key in mistaken or _opened_elsewhere(key) or not path.is_absolute():
            continue
        if key == "service.key_file" and not path.exists():
            yield from _made(f"{key} = {str(path)!r}", path.parent)
            continue
        try:
            with path.open("rb"):
                continue
        except OSError as error:
            yield f"{key} = {str(path)!r}: {error.strerror} (as user {user_shown()!r}): expected a readable file"


def _mistaken(settings: Config) -> frozenset[str]:
    """Return the keys of destinations that their protocols do not have; the registry tells of each."""
    options = {scheme: place.options.model_fields for place in PLACES for scheme in place.schemes}
    return frozenset(
        f"destinations.{name}.{key}"
        for name, table in settings.destinations.items()
        if (known := options.get(table.url.partition(":")[0].lower())) is not None
        for key in table.model_extra or ()
        if key not in known
    )


def _opened_elsewhere(key: str) -> bool:
    if key.startswith("destinations."):
        return key.rpartition(".")[2] in tls_options.KEYS
    return key in _OPENED_ELSEWHERE


def _directories(settings: Config) -> Iterator[str]:
    directory = settings.service.data_directory
    yield from _made(f"service.data_directory = {str(directory)!r}", directory)
    for name, destination in settings.destinations.items():
        parts = urlsplit(destination.url)
        if parts.scheme == "file" and parts.path:
            yield from _made(f"destinations.{name}.url = {destination.url!r}", Path(unquote(parts.path)))


def _made(where: str, path: Path) -> Iterator[str]:
    """Yield why a directory cannot be written, or, where it is missing, not be made."""
    try:
        found = path
        while not found.exists() and found != found.parent:
            found = found.parent
        if not stat.S_ISDIR(found.stat().st_mode):
            yield f"{where}: {found} is not a directory"
        elif not os.access(found, os.W_OK | os.X_OK, effective_ids=True):
            what = "cannot be written" if found == path else f"is missing, and cannot be made in {found}"
            yield f"{where}: {path} {what} (as user {user_shown()!r})"
    except OSError as error:
        yield f"{where}: {error.strerror} (as user {user_shown()!r})"
