"""Secret files: written atomically and readable for their owner alone, and refused where others may read them.

The callers decide what an unusable file means; each raises an error of its own.
"""

import os
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from datamover.config.types import AbsolutePath, named_files
from datamover.errors import Problems
from datamover.security import directories

KEYS = frozenset({"password_file", "token_file", "key_file", "notify_secret_file"})
"""The configuration's keys that name such files, beside those that protocols declare."""

_SECRET = object()
SecretPath = Annotated[AbsolutePath, _SECRET]
"""The type of an option or a key that names such a file."""

_EXPOSED = 0o037
"""Others may do nothing, and the group may only read, as in root:datamover 0640."""


class Unusable(Exception):
    """A secret file that cannot be used; ``reason`` says why, and what to run."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def exposure(path: Path, mode: int) -> str | None:
    """Return how the permissions of a secret file expose it, and what to run; None if they do not."""
    mode = stat.S_IMODE(mode)
    if not mode & _EXPOSED:
        return None
    return f"{path} has permissions {mode:04o}, so others may read or change it: run chmod 0600 {path}"


def read(path: Path) -> bytes:
    """Return the content of a secret file; blocks. Raises OSError, and Unusable if others may read it."""
    with path.open("rb") as file:
        reason = exposure(path, os.fstat(file.fileno()).st_mode)
        if reason is not None:
            raise Unusable(reason)
        return file.read()


def make(path: Path, content: bytes) -> None:
    """Write a new file atomically, readable for its owner alone; an existing file is kept. Raises OSError."""
    directories.make(path.parent, directories.PASSABLE)
    with _written(path, content, 0o600) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    sync(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Replace a file's content atomically, keeping its owner and permissions. Raises OSError."""
    before = path.stat()
    with _written(path, content, stat.S_IMODE(before.st_mode), before) as temporary:
        os.rename(temporary, path)
    sync(path.parent)


@contextmanager
def _written(path: Path, content: bytes, mode: int, owned_as: os.stat_result | None = None) -> Iterator[str]:
    """Yield a temporary file beside ``path`` that is on disk; after the block it is gone, unless it was renamed."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owned_as is not None:
                os.fchown(descriptor, owned_as.st_uid, owned_as.st_gid)
            os.fchmod(descriptor, mode)  # The umask may have removed bits.
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def sync(directory: Path) -> None:
    """Flush a directory, so that the names in it are durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def secret_options(options: type[BaseModel]) -> frozenset[str]:
    """Return the keys of a table that are of the type ``SecretPath``, or of that or None."""
    return frozenset(name for name, field in options.model_fields.items() if _is_secret(field))


def check_all(settings: BaseModel, file: str, declared: Collection[str]) -> None:
    """Raise ConfigError for the existing secret files of a configuration that others may read.

    ``KEYS`` and the keys ``declared`` name such files; these stand alone ("token_file") or whole ("ala.token_file").
    """
    problems = Problems()
    for key, path in named_files(settings):
        if not {key, key.rpartition(".")[2]} & {*KEYS, *declared}:
            continue
        try:
            reason = exposure(path, path.stat().st_mode)
        except OSError:
            continue  # It may be made later; whoever reads it reports that it is missing.
        if reason is not None:
            problems.found.append(f"{file}: {key}: {reason}")
    problems.check()


def _is_secret(field: FieldInfo) -> bool:
    types = get_args(field.annotation)
    return _SECRET in field.metadata or any(_SECRET in getattr(each, "__metadata__", ()) for each in types)
