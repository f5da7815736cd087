"""The conformance suite over FTP, against four servers: what each does not do stands beside it."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.protocols.ftp import pool_of
from tests.protocols.part_files import DiskPremises, PartFileConformance
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, ProftpdByDefault, ProftpdFtp, Pyftpdlib, RcloneFtp, Vsftpd

_NUMBERS = itertools.count()


class Served(PartFileConformance):
    """The suite over one server, on which each test has a directory of its own."""

    made: ClassVar[type[FtpServer]]
    secure: ClassVar[bool] = False
    lacking: ClassVar[dict[str, Any]] = {"cuts": False}
    """What ``DiskPremises`` is told of the server."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[FtpServer]:
        directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
        directory.chmod(0o755)
        server = cls.made(directory, Authority(directory) if cls.secure else None)
        server.start()
        yield server
        server.stop()
        shutil.rmtree(directory)

    @pytest.fixture
    def premises(self, server: FtpServer) -> Iterator[DiskPremises]:
        below = f"{next(_NUMBERS)}/root"
        root = server.root / below
        root.mkdir(parents=True)
        pool = pool_of(server, below)
        yield DiskPremises(pool, root, server.bound, **self.lacking)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


class TestVsftpd(Served):
    made = Vsftpd


class TestVsftpdSecure(Served):
    made = Vsftpd
    secure = True


class TestProftpd(Served):
    made = ProftpdFtp


class TestProftpdByDefault(Served):
    made = ProftpdByDefault
    lacking: ClassVar[dict[str, Any]] = {"cuts": False, "at_once": False, "resumes": False}


class TestProftpdSecure(Served):
    made = ProftpdFtp
    secure = True


class TestPyftpdlib(Served):
    made = Pyftpdlib


class TestPyftpdlibSecure(Served):
    made = Pyftpdlib
    secure = True


class TestRclone(Served):
    made = RcloneFtp
    lacking: ClassVar[dict[str, Any]] = {
        "modes": False,
        "times": False,
        "links": False,
        "at_once": False,
        "resumes": False,
        "cuts": False,
        "tells": False,
        "stale": 0.005,
    }
