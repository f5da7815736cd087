"""What the tests of protocols share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.sshd import Sshd


@pytest.fixture
def sshd(open_directory: Path) -> Iterator[Sshd]:
    """OpenSSH's server."""
    server = Sshd(open_directory)
    server.start()
    yield server
    server.stop()
