"""Files that hold secrets: made whole and closed to others, and refused where others may read them.

What becomes of a file that cannot be used is the matter of who needs it: each has an error of its own.
"""

import os
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from datamover.config.types import AbsolutePath, named_files
from datamover.errors import ConfigError
from datamover.security import directories

KEYS = frozenset({"password_file", "token_file", "key_file", "notify_secret_file"})
"""The configuration's keys that name such files, beside those that protocols declare."""

_SECRET = object()
SecretPath = Annotated[AbsolutePath, _SECRET]
"""The type of an option that names such a file."""

_EXPOSED = 0o037
"""Nothing for others; the group may read, as root:datamover 0640 has it, and no more."""


class Unusable(Exception):
    """A secret file that cannot be used; ``reason`` says why, and what to run."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def exposed(path: Path, mode: int) -> str | None:
    """Return what is wrong with the permissions of a file that holds a secret, None for nothing."""
    mode = stat.S_IMODE(mode)
    if not mode & _EXPOSED:
        return None
    return f"{path} has permissions {mode:04o}, so others may read or change it: run chmod 0600 {path}"


def read(path: Path) -> bytes:
    """Return a secret file's content; blocks. Raises OSError, and Unusable for one that others may read."""
    with path.open("rb") as file:
        reason = exposed(path, os.fstat(file.fileno()).st_mode)
        if reason is not None:
            raise Unusable(reason)
        return file.read()


def make(path: Path, content: bytes) -> None:
    """Write a new file, for its owner alone, whole or not at all, unless there is one already. Raises OSError."""
    directories.make(path.parent, directories.PASSABLE)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # Whatever the umask took away.
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        sync(path.parent)
    finally:
        os.unlink(temporary)


def replace(path: Path, content: bytes) -> None:
    """Put new content in a file's place, in one step, with the owner and permissions of the old. Raises OSError."""
    before = path.stat()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def secret_options(options: type[BaseModel]) -> frozenset[str]:
    """Return the keys of a table that are of the type ``SecretPath``, or of that or None."""
    return frozenset(name for name, field in options.model_fields.items() if _is_secret(field))


def check_all(settings: BaseModel, file: str, declared: Collection[str]) -> None:
    """Raise ConfigError for the first secret file of a configuration that is there, and that others may read.

    Such files are named by ``KEYS`` and by the keys ``declared``, in whatever table.
    """
    for key, path in named_files(settings):
        if (name := key.rpartition(".")[2]) not in KEYS and name not in declared:
            continue
        try:
            reason = exposed(path, path.stat().st_mode)
        except OSError:
            continue  # It may come yet; who needs it says so.
        if reason is not None:
            raise ConfigError(f"{file}: {key}: {reason}")


def _is_secret(field: FieldInfo) -> bool:
    types = get_args(field.annotation)
    return _SECRET in field.metadata or any(_SECRET in getattr(each, "__metadata__", ()) for each in types)
