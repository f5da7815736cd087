"""What else moves files to bad mounts: an archive, and the rehearsal of ``destinations.test``."""

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import NewFile, NewJob, Overwrite, State
from tests.engine.mounts import LARGE, SMALL, MountRig, open_below
from tests.engine.rig import file, parts, place
from tests.servers.mounts.misbehaviour import Does, Misbehaviour
from tests.servers.mounts.mount import mounted

MEMBERS = (SMALL, LARGE)

ROWS = [
    Misbehaviour("write", does=Does.HALF),
    Misbehaviour("flush", "EDQUOT", Does.LOSES),
    Misbehaviour("flush", "EDQUOT", Does.LOSES, times=1),
    Misbehaviour("flush", does=Does.LOSES),
    Misbehaviour("release", does=Does.LOSES),
    Misbehaviour("link"),
    Misbehaviour("rename"),
    Misbehaviour("rename", "EIO"),
    Misbehaviour("rename", "EIO", times=1),
    Misbehaviour("rename", "EIO", Does.ALL),
    Misbehaviour("chmod", "EPERM"),
]


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[MountRig]:
    with mounted(tmp_path / "mount") as mount:
        rig = await MountRig(reactor, tmp_path, mount).open()
        yield rig
        await rig.close()


@pytest_twisted.ensureDeferred
async def test_archives(rig: MountRig) -> None:
    """An archive is COMPLETED and there whole, or it failed with a reason and what was there before is there."""
    names = [f"{number}-{overwrite.value}" for number in range(len(ROWS)) for overwrite in Overwrite]
    for name in names:
        (rig.mount.back / name).mkdir()
        if not name.endswith(Overwrite.NEVER.value):
            (rig.mount.back / name / "all.zip").write_bytes(b"old")
    for size in MEMBERS:
        rig.content(size)
    rig.mount.tell(
        *(
            Misbehaviour(row.operation, row.error, row.does, path=f"{number}-{overwrite.value}/*", times=row.times)
            for number, row in enumerate(ROWS)
            for overwrite in Overwrite
        )
    )

    jobs = await rig.rig.store.submit(
        [
            NewJob(
                files=tuple(_member(size, name) for size in MEMBERS),
                owner="tester",
                overwrite=Overwrite(name.partition("-")[2]),
                archive="zip",
                max_attempts=2,
            )
            for name in names
        ]
    )
    for name, job in zip(names, jobs, strict=True):
        record = await rig.rig.ended(job.id)
        target = rig.mount.back / name / "all.zip"
        what = f"{ROWS[int(name.partition('-')[0])]}, {name}: {record.state}, {record.error}"
        if record.state is State.COMPLETED:
            with zipfile.ZipFile(target) as archive:
                assert sorted(len(archive.read(member)) for member in archive.namelist()) == sorted(MEMBERS), what
                assert archive.testzip() is None, what
        else:
            assert record.state is State.FAILED, what
            assert record.error, what
            if ROWS[int(name.partition("-")[0])].does is not Does.ALL:
                before = None if name.endswith(Overwrite.NEVER.value) else b"old"
                assert (target.read_bytes() if target.exists() else None) == before, what
    assert not parts(rig.mount.back)
    assert not open_below(rig.at)


def _member(size: int, name: str) -> NewFile:
    return file(place("sources", f"{size}"), "mount", f"{name}/all.zip")


@pytest.mark.parametrize(
    ("misbehaviours", "ok", "lacks"),
    [
        ([], True, set()),
        ([Misbehaviour("chmod", "EPERM"), Misbehaviour("utimens", "EPERM")], True, {"set-mode", "set-modified"}),
        ([Misbehaviour("fsync", "EINVAL"), Misbehaviour("link", "EPERM")], True, {"flush", "keep-old"}),
        ([Misbehaviour("flush", "EDQUOT", Does.LOSES)], False, set()),
        ([Misbehaviour("flush", does=Does.LOSES)], False, set()),
        ([Misbehaviour("write", does=Does.CORRUPTS)], False, set()),
        ([Misbehaviour("rename", does=Does.NOTHING)], False, set()),
    ],
    ids=lambda value: "; ".join(map(str, value)) if isinstance(value, list) else None,
)
@pytest_twisted.ensureDeferred
async def test_rehearsal(rig: MountRig, misbehaviours: list[Misbehaviour], ok: bool, lacks: set[str]) -> None:
    """A rehearsal finds what transfers would find: that files do not arrive, or what they will go without."""
    rig.mount.tell(*misbehaviours)

    told = await rig.rig.registry.test("mount")

    assert told["ok"] is ok, told
    if ok:
        assert {lack["ability"] for lack in told["lacks"]} == lacks
        assert {lack["ability"] for lack in rig.rig.registry.describe("mount")["lacks"]} == lacks
    else:
        assert told["steps"][-1]["error"]["message"]
    assert not list(rig.mount.back.iterdir())
    assert not open_below(rig.at)
