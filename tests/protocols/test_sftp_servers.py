"""The conformance suite over the SFTP servers of others: what each does not do stands beside it."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.sftp import SFTP
from tests.protocols.conformance import put, settings
from tests.protocols.part_files import DiskPremises, PartFileConformance
from tests.servers.dropbear import Dropbear
from tests.servers.proftpd import Proftpd
from tests.servers.rclone import CACHED, DEBIANS, Rclone
from tests.servers.ssh import SshServer
from tests.servers.sshd import Sshd, binding
from tests.servers.wayward.misbehaviour import Misbehaviour, Way
from tests.servers.wayward.server import Wayward

_NUMBERS = itertools.count()
_RCLONE = {"modes": False, "links": False, "at_once": False, "tells": False, "stale": 0.005}


class Served(PartFileConformance):
    """The suite over one server, on which each test has a directory of its own."""

    made: ClassVar[Any]
    """Makes it, of a directory."""
    lacking: ClassVar[dict[str, Any]] = {}
    """What ``DiskPremises`` is told of the server."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[SshServer]:
        directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
        directory.chmod(0o755)
        server = cls.made(directory)
        server.start()
        yield server
        server.stop()
        shutil.rmtree(directory)

    @pytest.fixture
    def premises(self, server: SshServer) -> Iterator[DiskPremises]:
        below = f"{next(_NUMBERS)}/root"
        root = server.root / below
        root.mkdir(parents=True)
        options = SFTP.options(known_hosts_file=server.known_hosts, private_key_file=server.private_key)  # type: ignore[call-arg]
        pool = SFTP.open(settings(f"{server.url.rstrip('/')}/{below}"), options, reactor)
        yield DiskPremises(pool, root, server.bound, **self.lacking)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


class TestProftpd(Served):
    made = Proftpd
    lacking: ClassVar = {"tells": False}


class TestDropbear(Served):
    made = Dropbear


class TestRclone(Served):
    """Files of an object store, as it were: written in order, and there when they are closed."""

    made = Rclone
    lacking: ClassVar = {**_RCLONE, "resumes": False}


class TestRcloneCached(Served):
    made = partial(Rclone, arguments=CACHED)
    lacking: ClassVar = {**_RCLONE, "cuts": False}


class TestOldRclone(Served):
    made = partial(Rclone, program=DEBIANS)
    lacking: ClassVar = TestRclone.lacking


class TestOldRcloneCached(Served):
    made = partial(Rclone, program=DEBIANS, arguments=CACHED)
    lacking: ClassVar = {**_RCLONE, "forgets": True}


class TestWayward(Served):
    """A server that misbehaves when told to, and was told nothing."""

    made = Wayward

    @pytest_twisted.ensureDeferred
    async def test_directories_that_seem_to_be_there(self, premises: DiskPremises, server: Wayward) -> None:
        """Directories are made where a server tells a path of them, and opens them, though they are missing."""
        server.misbehave(Misbehaviour("REALPATH", Way.ECHOES))
        try:
            await put(premises.writing, "x/y/z/file", b"data")
        finally:
            server.misbehave()
        assert (premises.root / "x/y/z/file").read_bytes() == b"data"


def _openssh_without(*requests: str) -> Callable[[Path], SshServer]:
    """Return what makes an OpenSSH server that permits all requests but these, as ``sftp-server -Q requests`` calls."""

    def made(directory: Path) -> Sshd:
        without = f"-P {','.join(requests)}"
        subsystem = binding(directory, without) if os.geteuid() == 0 else f"Subsystem sftp internal-sftp {without}"
        return Sshd(directory, config=subsystem)

    return made


class TestOpensshWithoutAttributes(Served):
    made = staticmethod(_openssh_without("setstat", "fsetstat"))
    lacking: ClassVar = {"modes": False, "times": False, "cuts": False}


class TestOpensshWithoutExtensions(Served):
    """What other libraries' servers do not have either."""

    made = staticmethod(_openssh_without("fsync", "limits", "statvfs", "fstatvfs", "copy-data"))


class TestOpensshWithoutLinks(Served):
    """No way to replace a file in one step, nor to name one where nothing has the name."""

    made = staticmethod(_openssh_without("hardlink", "posix-rename"))


class TestOpensshDropBox(Served):
    """An account that brings files, and may neither see nor remove them."""

    made = staticmethod(_openssh_without("remove", "rmdir", "opendir", "readdir"))
    lacking: ClassVar = {"removes": False, "lists": False}


class TestOpensshWithoutLooks(Served):
    """No looks at open files, nor at links themselves."""

    made = staticmethod(_openssh_without("fstat", "lstat"))
