"""The account that the process will be: twistd's ``--uid`` and ``--gid`` take effect after what is tried before.

What is tried before the reactor runs is tried as the account that must live with it: a file that root reads and the
service does not is no file to start on.
"""

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group by their numbers; None: those that the process has."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def coming(cls, options: Mapping[str, Any], process: Any) -> "Account":
        """Return whom twistd will make of the process, by its options and what the application itself asks for.

        ``process`` is the application's ``IProcess``. The order is that of ``UnixApplicationRunner.startApplication``.
        """
        uid, gid = (
            getattr(process, name, None) if options.get(name) is None else options[name] for name in ("uid", "gid")
        )
        if uid is not None and gid is None:
            gid = pwd.getpwuid(uid).pw_gid
        return cls(uid, gid)

    @property
    def is_another(self) -> bool:
        """Whether the process is root, and will not be."""
        return os.geteuid() == 0 and self.uid not in (None, 0)

    @contextmanager
    def assumed(self) -> Iterator[None]:
        """Run the block with the account's rights, as far as files go; only where no other thread runs."""
        if not self.is_another:
            yield
            return
        assert self.uid is not None, "it is another's"
        gid = os.getegid() if self.gid is None else self.gid
        groups, own = os.getgroups(), os.getegid()
        os.setgroups(self._groups(gid))
        os.setegid(gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(own)
            os.setgroups(groups)

    def own(self, path: Path) -> None:
        """Give the account what root has made for it."""
        if self.is_another:
            os.chown(path, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)

    def _groups(self, gid: int) -> list[int]:
        assert self.uid is not None, "it is another's"
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, gid)
        except KeyError:
            return [gid]


PRESENT = Account()
"""Whoever the process is, it stays."""
