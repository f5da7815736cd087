"""Several engines of one machine share the work."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.engine.share import ProcessShare
from datamover.jobs.values import State
from tests.engine.rig import Rig, file, place
from tests.waiting import until


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> Any:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a").write_bytes(b"a")
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": f"faulty://{tmp_path}/archive", "max_active": 6}})
    yield rig
    await rig.close()


@pytest.mark.parametrize(("files", "active"), [(1, [0, 1]), (2, [1, 1]), (9, [3, 3])])
@pytest_twisted.ensureDeferred
async def test_engines_share(rig: Rig, files: int, active: list[int]) -> None:
    """A few transfers are shared out as well as many, and no engine keeps more than its part of a destination."""
    gate: Deferred[None] = Deferred()

    async def before(operation: str, path: str) -> None:
        if operation == "write" and not gate.called:
            opened: Deferred[None] = Deferred()
            gate.addCallback(opened.callback)
            await opened

    rig.faulty.before = before
    engines = [await rig.engine(max_active=16, share=ProcessShare(number, 2)) for number in range(2)]
    job = await rig.ask(*(file(place("archive", "a"), "archive", f"b{number}") for number in range(files)))
    await until(lambda: sum(engine.dispatcher.active for engine in engines) == sum(active))
    assert sorted(engine.dispatcher.active for engine in engines) == active
    gate.callback(None)
    record = await rig.ended(job)
    assert record.state is State.COMPLETED
