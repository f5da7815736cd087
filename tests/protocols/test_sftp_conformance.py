"""The conformance suite over SFTP, against OpenSSH."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.place import PlaceSettings
from datamover.protocols.sftp import SFTP
from datamover.protocols.sftp.ssh.ciphers import CIPHERS
from tests.protocols.conformance import DIRECTORY_MODE, FILE_MODE
from tests.protocols.part_files import DiskPremises, PartFileConformance
from tests.protocols.sftp import MIB, PART, noise, opened, reading, send, sha256, writing
from tests.servers.sshd import Sshd

NOBODY = 65534
SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


class TestSftp(PartFileConformance):
    @pytest.fixture
    def premises(self, open_directory: Path) -> Iterator[DiskPremises]:
        """A directory behind an sshd, whose SFTP runs as nobody for those who connect while it is ``bound``."""
        flag = open_directory / "as_nobody"
        sshd = Sshd(open_directory, config=_subsystem(open_directory, flag) if os.geteuid() == 0 else "")
        sshd.start()
        settings = PlaceSettings("place", sshd.url, FILE_MODE, DIRECTORY_MODE, connect_timeout=10.0, idle_timeout=10.0)
        options = SFTP.options(known_hosts_file=sshd.known_hosts, private_key_file=sshd.private_key)  # type: ignore[call-arg]
        pool = SFTP.open(settings, options, reactor)

        @contextmanager
        def bound() -> Iterator[None]:
            flag.touch()
            try:
                yield
            finally:
                flag.unlink()

        yield DiskPremises(pool, sshd.root, bound)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))
        sshd.stop()


def _subsystem(directory: Path, flag: Path) -> str:
    """Return the line that makes root's SFTP nobody's while ``flag`` exists: no permission binds root."""
    server = next(path for path in SERVERS if Path(path).exists())
    script = directory / "sftp"
    become = f"{shutil.which('setpriv')} --reuid={NOBODY} --regid={NOBODY} --clear-groups"
    script.write_text(f"#!/bin/sh\nif [ -e {flag} ]; then exec {become} {server}; fi\nexec {server}\n")
    script.chmod(0o755)
    return f"Subsystem sftp {script}"


@pytest.mark.parametrize("cipher", CIPHERS, ids=bytes.decode)
@pytest_twisted.ensureDeferred
async def test_every_cipher(open_directory: Path, cipher: bytes) -> None:
    """Under each cipher that is offered bytes arrive whole both ways, while the server keeps changing the keys."""
    sshd = Sshd(open_directory, config=f"Ciphers {cipher.decode()}\nRekeyLimit 1M")
    sshd.start()
    data = noise(5 * MIB + 1)
    try:
        async with opened(sshd) as pool:
            assert await send(writing(pool), PART, data) == len(data)
            assert await sha256(reading(pool), PART) == hashlib.sha256(data).hexdigest()
        assert (sshd.root / PART).read_bytes() == data
    finally:
        sshd.stop()
