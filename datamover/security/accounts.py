"""The operating system's account that the process will run as.

twistd applies ``--uid`` and ``--gid`` only after the checks of the start. Those checks run with the rights of that
account, so that a file which only root can read is found before the service needs it.
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
    """A user id and a group id; None stands for what the process has."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def after_start(cls, options: Mapping[str, Any], process: Any) -> "Account":
        """Return the account that twistd will switch to, from its options or, without them, the application's request.

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
        """Whether the process is root now and will be another user."""
        return os.geteuid() == 0 and self.uid not in (None, 0)

    @contextmanager
    def assumed(self) -> Iterator[None]:
        """Run the block with the account's rights to files. No other thread may run meanwhile."""
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
        """Make the account the owner of ``path``, if root made it for the account."""
        if self.is_another:
            os.chown(path, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)

    def _groups(self, gid: int) -> list[int]:
        assert self.uid is not None, "it is another's"
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, gid)
        except KeyError:
            return [gid]


CURRENT = Account()
"""The account that the process has."""
