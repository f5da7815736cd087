"""What the tests of all object stores share: their conformance suite."""

import pytest
import pytest_twisted

from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.http import ranges
from tests.protocols.conformance import MIB, Conformance, Premises, content, get


def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files be read in ranges of a mebibyte."""
    monkeypatch.setattr(ranges, "SEGMENTS", Buffers(64 * MIB, least=2**18, most=MIB))


class ObjectStoreConformance(Conformance):
    """What every object store does besides; a subclass gives the fixture ``premises``."""

    @pytest_twisted.ensureDeferred
    async def test_read_in_ranges(self, premises: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file is whole however many ranges it is read in, from its beginning or from within."""
        small_ranges(monkeypatch)
        for size in (0, MIB, 4 * MIB + 3):
            data = content(size)
            premises.outside.lay("f", data)
            await premises.catch_up()
            assert await get(premises.reading, "f") == (0, data)
        identity = (await premises.reading.origin("f").inspect()).identity
        assert await get(premises.reading, "f", offset=MIB // 2, identity=identity) == (MIB // 2, data[MIB // 2 :])
        assert await get(premises.reading, "f", offset=size, identity=identity) == (size, b"")
