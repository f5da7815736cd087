"""Commands as another user runs them; root only.

Python may be installed where only root passes: then a command gets a mount namespace of its own, in which the way to it
is open.
"""

import pwd
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

_STASH = "/mnt"
"""Something is mounted there within the namespace, for a moment."""


def as_user(name: str, command: list[str]) -> list[str]:
    """Return what runs a command as another user, with the umask and the directory of who runs it."""
    user = pwd.getpwnam(name)
    return reachable(["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *command])


def reachable(command: list[str]) -> list[str]:
    """Return what runs a command that becomes another user itself."""
    steps = [step for prefix in sorted({sys.prefix, sys.base_prefix}) for step in _open(Path(prefix))]
    if not steps:
        return command
    script = " && ".join([*steps, 'exec "$@"'])
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


def _open(prefix: Path) -> Iterator[str]:
    """Yield the steps after which a directory is where it was, below directories that let others pass."""
    closed = [path for path in reversed(prefix.parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return
    inside, outside = shlex.quote(str(prefix)), shlex.quote(str(closed[0]))
    yield f"mount --bind {inside} {_STASH}"
    yield f"mount -t tmpfs -o mode=755 tmpfs {outside}"
    yield f"(umask 022 && mkdir -p {inside})"
    yield f"mount --move {_STASH} {inside}"
