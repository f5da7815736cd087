"""The user that runs the embedded server. PostgreSQL refuses to run as root, so root runs it as another user."""

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamover.errors import StartError

_USERS = ("datamover", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class User:
    """The user that runs the server."""

    uid: int
    gid: int
    name: str
    drops: bool
    """Whether this process is root and drops its rights to become the user."""

    def process(self) -> dict[str, Any]:
        """Return the arguments that make ``subprocess`` run a program as this user, in a clean environment."""
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
        dropping: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drops else {}
        if not self.drops and os.getuid() != self.uid:  # Only the effective user is this one; a shell would reset it.
            dropping = {"user": self.uid, "group": self.gid}
        return {
            "env": {**environment, "LC_ALL": "C"},
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            "umask": 0o077,
            **dropping,
        }

    def reaches(self, directory: Path) -> bool:
        """Return whether the user can enter and write to a directory."""
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(directory)], capture_output=True, **self.process()
        )
        return done.returncode == 0

    def may_pass(self, directory: Path) -> bool:
        """Return whether a directory's mode lets the user pass through it."""
        status = directory.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH))

    def runs(self, binaries: Path) -> bool:
        """Return whether the user can run the server's programs in a directory."""
        for program in ("initdb", "postgres"):
            try:
                done = subprocess.run([binaries / program, "--version"], capture_output=True, **self.process())  # noqa: S603
            except OSError:
                return False
            if done.returncode != 0:
                return False
        return True


def unprivileged(owner: int | None) -> User:
    """Return the user that root runs the server as: the cluster's owner, or one of a few users. Raises StartError."""
    for name in _USERS if not owner else (user_name(owner),):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid, entry.pw_name, drops=True)
    raise StartError(
        f"the database server may not run as root, and there is none of the users {', '.join(_USERS)}: make one, run "
        "datamover as another user, or set database.url"
    )


def user_name(uid: int) -> str:
    """Return a user's name; raises StartError for one without a name, since the server needs it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise StartError(
            f"user id {uid} has no name, and the database server needs one: add it to /etc/passwd, or set database.url"
        ) from None
