"""Small files that are written together: what befalls one of them on a bad mount is its own matter."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from datamover.errors import ConnectionLost
from datamover.jobs.values import Overwrite, State
from datamover.protocols.local import LOCAL
from tests.engine.mounts import PART, MountRig, open_below
from tests.engine.rig import file, parts, place
from tests.protocols.conformance import settings
from tests.protocols.part_files import part_files
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import mounted

TOGETHER = 32
"""Files, of as many as go together."""
SIXTH = 5
"""Calls that go well before one does not."""


@pytest_twisted.ensureDeferred
async def test_one_of_many_may_not_be_placed(tmp_path: Path) -> None:
    """A small file whose transfer is called off at the last moment gets no name; those with it get theirs."""
    with mounted(tmp_path / "mount") as mount:
        pool = LOCAL.open(settings(mount.url), LOCAL.options(), reactor)
        writing = part_files(pool)

        def called_off() -> None:
            raise ConnectionLost("called off")

        async def put(number: int) -> str:
            commit = called_off if number == SIXTH else _nothing
            try:
                await writing.put_part(
                    f"d/.datamover-{number}.part", f"d/{number}", b"data", modified=None, replace=False, commit=commit
                )
            except ConnectionLost:
                return "called off"
            return "there"

        ended = await gatherResults([Deferred.fromCoroutine(put(number)) for number in range(TOGETHER)])

        assert ended == ["called off" if number == SIXTH else "there" for number in range(TOGETHER)]
        names = {path.name for path in (mount.back / "d").iterdir() if not path.name.startswith(".")}
        assert names == {f"{number}" for number in range(TOGETHER) if number != SIXTH}
        assert not open_below(mount.at)
        await pool.close()


def _nothing() -> None:
    """Do nothing."""


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[MountRig]:
    with mounted(tmp_path / "mount") as mount:
        rig = await MountRig(reactor, tmp_path, mount).open()
        yield rig
        await rig.close()


@pytest.mark.parametrize(
    ("overwrite", "misbehaviours"),
    [
        (Overwrite.NEVER, [Misbehaviour("create", "EIO", path=PART, skip=SIXTH, times=1)]),
        (Overwrite.NEVER, [Misbehaviour("write", "ENOSPC", path=PART, skip=SIXTH, times=1)]),
        (Overwrite.NEVER, [Misbehaviour("fsync", "EIO", path=PART, skip=SIXTH, times=1)]),
        (Overwrite.NEVER, [Misbehaviour("flush", "EDQUOT", Does.LOSES, path=PART, skip=SIXTH, times=1)]),
        (Overwrite.NEVER, [Misbehaviour("flush", None, Does.LOSES, path=PART, skip=SIXTH, times=1)]),
        (Overwrite.NEVER, [Misbehaviour("link", None, Does.LOSES, skip=SIXTH, times=1)]),
        (
            Overwrite.NEVER,
            [Misbehaviour("link", "EPERM"), Misbehaviour("exclusive", "EIO", skip=SIXTH, times=1)],
        ),
        (Overwrite.ALWAYS, [Misbehaviour("rename", "EIO", skip=SIXTH, times=1)]),
        (Overwrite.ALWAYS, [Misbehaviour("rename", None, skip=SIXTH, times=1)]),
    ],
    ids=lambda value: value.value if isinstance(value, Overwrite) else str(value[-1]),
)
@pytest_twisted.ensureDeferred
async def test_one_of_many(rig: MountRig, overwrite: Overwrite, misbehaviours: list[Misbehaviour]) -> None:
    """One of many small files fails at one step and is moved again; the others are there at their first attempt."""
    content = os.urandom(1000)
    for number in range(TOGETHER):
        (rig.sources / f"{number}").write_bytes(content + bytes([number]))
        if overwrite is Overwrite.ALWAYS:
            (rig.mount.back / "d").mkdir(exist_ok=True)
            (rig.mount.back / "d" / f"{number}").write_bytes(b"old")
    rig.mount.tell(*misbehaviours)

    files = [file(place("sources", f"{number}"), "mount", f"d/{number}") for number in range(TOGETHER)]
    job, records = await rig.rig.moved(*files, overwrite=overwrite, max_attempts=2)

    assert rig.mount.met()[-1] == 1
    assert job.state is State.COMPLETED, [record.error for record in records if record.error]
    assert sorted(record.attempt for record in records) == [*[1] * (TOGETHER - 1), 2]
    for number in range(TOGETHER):
        assert (rig.mount.back / "d" / f"{number}").read_bytes() == content + bytes([number])
    assert not parts(rig.mount.back)
    assert not open_below(rig.mount.at)
