"""The conformance suite over the SFTP servers of others, each as its tests share it."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.sftp import SFTP
from tests.protocols.conformance import Conformance, Premises, settings
from tests.servers.dropbear import Dropbear
from tests.servers.proftpd import Proftpd
from tests.servers.rclone import CACHED, DEBIANS, Rclone
from tests.servers.ssh import SshServer
from tests.servers.sshd import Sshd, binding
from tests.servers.wayward import Wayward

_NUMBERS = itertools.count()


class Served(Conformance):
    """The suite over one server, on which each test has a directory of its own."""

    made: ClassVar[Callable[[Path], SshServer]]

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
    def premises(self, server: SshServer) -> Iterator[Premises]:
        below = f"{next(_NUMBERS)}/root"
        root = server.root / below
        root.mkdir(parents=True)
        options = SFTP.options(known_hosts_file=server.known_hosts, private_key_file=server.private_key)  # type: ignore[call-arg]
        pool = SFTP.open(settings(f"{server.url.rstrip('/')}/{below}"), options, reactor)
        yield Premises(pool, root, server.bound)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


class TestProftpd(Served):
    made = Proftpd


class TestRclone(Served):
    made = Rclone


class TestRcloneCached(Served):
    made = partial(Rclone, arguments=CACHED)


class TestOldRclone(Served):
    made = partial(Rclone, program=DEBIANS)


class TestOldRcloneCached(Served):
    made = partial(Rclone, program=DEBIANS, arguments=CACHED)


class TestDropbear(Served):
    made = Dropbear


class TestWayward(Served):
    """A server that misbehaves when told to, and was told nothing."""

    made = Wayward


def _openssh_without(*requests: str) -> Callable[[Path], SshServer]:
    def made(directory: Path) -> Sshd:
        arguments = f"-P {','.join(requests)}"
        root = os.geteuid() == 0
        return Sshd(
            directory, config=binding(directory, arguments) if root else f"Subsystem sftp internal-sftp {arguments}"
        )

    return made


class TestOpensshWithoutAttributes(Served):
    made = staticmethod(_openssh_without("setstat", "fsetstat"))
