"""File servers that lie in ways that only the content shows, or in several at once."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from tests.engine.file_servers import Kind, ServerRig

EXAMPLES = 30
TOGETHER = 12
"""Moves of one example."""
PLAIN, CAREFUL = Kind(), Kind(read_back=True)


@pytest_twisted.async_yield_fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """What opens a rig with a stock of places."""
    rig = ServerRig(reactor, tmp_path)
    yield rig.open
    await rig.close()
