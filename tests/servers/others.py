"""Run commands as another user; root only.

Python may be installed in a directory that only root can enter: then a command gets a mount namespace in which that
directory can be reached.
"""

import pwd
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

_STASH = "/mnt"
"""Used as a mount point within the namespace, for a moment."""


def as_user(name: str, command: list[str]) -> list[str]:
    """Return the command line that runs a command as another user, with the caller's umask and directory."""
    user = pwd.getpwnam(name)
    return reachable(["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *command])


def reachable(command: list[str]) -> list[str]:
    """Return the command line that runs a command as root, which becomes another user itself."""
    steps = [step for prefix in sorted({sys.prefix, sys.base_prefix}) for step in _open(Path(prefix))]
    if not steps:
        return command
    script = " && ".join([*steps, 'exec "$@"'])
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


def _open(prefix: Path) -> Iterator[str]:
    """Yield the commands after which a directory has its path again, below directories that others can enter."""
    closed = [path for path in reversed(prefix.parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return
    inside, outside = shlex.quote(str(prefix)), shlex.quote(str(closed[0]))
    yield f"mount --bind {inside} {_STASH}"
    yield f"mount -t tmpfs -o mode=755 tmpfs {outside}"
    yield f"(umask 022 && mkdir -p {inside})"
    yield f"mount --move {_STASH} {inside}"
