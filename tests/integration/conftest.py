"""What the tests of interfaces share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted

from tests.servers.door import Door, config_of


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """An interface without clients: whoever calls is an administrator."""
    door = Door(config_of(tmp_path))
    yield door
    await door.close()
