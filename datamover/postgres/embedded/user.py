"""The user that runs the embedded server: PostgreSQL refuses root, so that is somebody else where we are root."""

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
    """Who runs the server."""

    uid: int
    gid: int
    name: str
    drops: bool
    """We are root, and become this user for it."""

    def process(self) -> dict[str, Any]:
        """Return what makes ``subprocess`` run something as this user, untouched by our environment."""
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
        dropping: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drops else {}
        if not self.drops and os.getuid() != self.uid:  # Only our rights are this user's, and a shell would drop them.
            dropping = {"user": self.uid, "group": self.gid}
        return {
            "env": {**environment, "LC_ALL": "C"},
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            "umask": 0o077,
            **dropping,
        }

    def reaches(self, directory: Path) -> bool:
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(directory)], capture_output=True, **self.process()
        )
        return done.returncode == 0

    def may_pass(self, directory: Path) -> bool:
        """Tell whether a directory's mode lets the user through."""
        status = directory.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH))

    def runs(self, binaries: Path) -> bool:
        for program in ("initdb", "postgres"):
            try:
                done = subprocess.run([binaries / program, "--version"], capture_output=True, **self.process())  # noqa: S603
            except OSError:
                return False
            if done.returncode != 0:
                return False
        return True


def unprivileged(owner: int | None) -> User:
    """Return whom root runs the server as: the cluster's owner, or the first of a few users. Raises StartError."""
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
    """Return a user's name; raises StartError where there is none, since the server looks for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise StartError(
            f"user id {uid} has no name, and the database server needs one: add it to /etc/passwd, or set database.url"
        ) from None
