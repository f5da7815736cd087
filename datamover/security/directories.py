"""The service's own directories, made with their modes whatever the umask is.

twistd's umask is 077 in the background, and a service manager may set any.
"""

import os
import pwd
import shutil
import stat
from errno import EDQUOT, ENOSPC
from pathlib import Path

from datamover.errors import StartError
from datamover.security.accounts import Account

PASSABLE = 0o711
"""Others may enter but not list it: they reach only names that they know."""
CLOSED = 0o700
_ABOVE = 0o755
"""The mode of parent directories, as mkdir makes them by hand."""
_WAYS_OUT = {ENOSPC: "make room there, or set another service.data_directory", EDQUOT: "have its quota raised"}


def make(path: Path, mode: int, owner: Account | None = None) -> None:
    """Make a directory and its missing parents; leave an existing one as it is. Raises OSError.

    ``owner`` becomes the owner of the directory itself, not of its parents.
    """
    if not path.parent.exists():
        make(path.parent, _ABOVE)
    try:
        path.mkdir(mode=CLOSED)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    path.chmod(mode)
    if owner is not None:
        owner.own(path)


def make_data(path: Path, mode: int = PASSABLE, owner: Account | None = None) -> None:
    """Make the data directory, or one in it, like ``make``; raises StartError.

    Below a directory that everybody may write to, an existing one must belong to this user, root or ``owner``.
    """
    try:
        make(path, mode, owner)
        _check_not_planted(path, owner)
    except FileExistsError as error:
        raise StartError(f"service.data_directory: {error.filename} is not a directory") from None
    except OSError as error:
        raise refusal(error) from None


def _check_not_planted(path: Path, owner: Account | None) -> None:
    if not path.parent.stat().st_mode & stat.S_IWOTH:
        return
    ours = {0, os.geteuid(), owner.uid if owner else 0}
    for found in (path.lstat(), path.stat()):
        if found.st_uid not in ours:
            raise StartError(
                f"service.data_directory: {path} was made by user id {found.st_uid}, where everybody may make "
                "directories: remove it, or set another service.data_directory"
            )


def make_staging(path: Path) -> None:
    """Make the staging directory; raises StartError if the engine cannot write there."""
    make_data(path, CLOSED)
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        raise StartError(
            f"service.data_directory: {path} cannot be written as user {user_shown()!r}: give it that user "
            f"(chown {user_shown()} {path}), or set another service.data_directory"
        )


def refusal(error: OSError) -> StartError:
    """Return the StartError for an error in the data directory: which path, as which user, and what to do."""
    if isinstance(error, shutil.Error):  # It lists several files; the first says enough.
        _, path, reason = error.args[0][0]
    else:
        path, reason = error.filename, error.strerror
    way_out = _WAYS_OUT.get(error.errno or 0, "set service.data_directory to one that this user may write")
    return StartError(f"service.data_directory: {path}: {reason} (as user {user_shown()!r}): {way_out}")


def user_shown() -> str:
    """Return the name of the user that this process runs as, its number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
