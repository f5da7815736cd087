"""A root that other users of the machine may write to: nothing of theirs is written into, read by them, or believed."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover import errors
from datamover.protocols.local import LOCAL
from datamover.protocols.part_files.names import OLD
from tests.protocols.conformance import settings
from tests.protocols.part_files import NOBODY, PART, DiskPremises, as_nobody, fill, give_name, part_files
from tests.servers.mounts.mount import mounted

SECRET = b"secret " * 1000
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture(params=[0o777, 0o1777], ids=["open", "sticky"])
def premises(request: pytest.FixtureRequest, open_directory: Path) -> Iterator[DiskPremises]:
    """A service that is no superuser, on a root where everybody may make files."""
    root = open_directory / "root"
    root.mkdir()
    root.chmod(request.param)
    pool = LOCAL.open(settings(root.as_uri()), LOCAL.options(), reactor)
    os.seteuid(SERVICE)
    try:
        yield DiskPremises(pool, root, as_nobody)
    finally:
        os.seteuid(0)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


SERVICE = NOBODY - 1


def as_another(script: str, path: Path, given: bytes = b"") -> None:
    """Have another user of the machine run a script about ``$0``."""
    os.seteuid(0)
    try:
        user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        subprocess.run(["/bin/sh", "-ec", script, str(path)], input=given, check=True, cwd="/", **user)
    finally:
        os.seteuid(SERVICE)


async def write(premises: DiskPremises, small: bool) -> None:
    """Write what is secret to a part file; a small one is placed."""
    if small:
        await premises.parts.put_part(PART, "file", SECRET, modified=None, replace=False, commit=lambda: None)
    else:
        await fill(premises.parts, PART, SECRET)


LAY = 'cat > "$0"; chmod 666 "$0"'


@pytest.mark.parametrize("small", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_file_of_anothers_under_a_parts_name(premises: DiskPremises, small: bool) -> None:
    """Nothing is written into it: it is removed where that may be, else the transfer says whose it is."""
    part = premises.root / PART
    as_another(LAY, part)
    with part.open("rb") as theirs:
        if premises.root.stat().st_mode & stat.S_ISVTX:
            with pytest.raises(errors.ServerError, match=f"something of user id {NOBODY}"):
                await write(premises, small)
        else:
            await write(premises, small)
            assert (premises.root / ("file" if small else PART)).stat().st_uid == SERVICE
        assert theirs.read() == b""


@pytest_twisted.ensureDeferred
async def test_a_file_of_anothers_is_not_gone_on_with(premises: DiskPremises) -> None:
    """What another user put in the place of a part file, with its very bytes, is left alone; it is begun anew."""
    part = premises.root / PART
    as_another(LAY, part, SECRET)
    with part.open("rb") as theirs:
        with pytest.raises(errors.SizeMismatch, match=f"a file of user id {NOBODY}"):
            await premises.parts.open_part(PART, "file", offset=len(SECRET))
        assert theirs.read() == SECRET


@pytest_twisted.ensureDeferred
async def test_ones_own_is_gone_on_with(premises: DiskPremises) -> None:
    """A part file of one's own is; not one that has another name too, or that others can read now."""
    await fill(premises.parts, PART, SECRET)
    await fill(premises.parts, PART, SECRET, offset=len(SECRET))
    part = premises.root / PART
    assert part.read_bytes() == SECRET * 2
    part.chmod(0o666)
    with pytest.raises(errors.SizeMismatch, match="others can read"):
        await premises.parts.open_part(PART, "file", offset=1)
    part.chmod(0o600)
    os.link(part, premises.root / "another")
    with pytest.raises(errors.SizeMismatch):
        await premises.parts.open_part(PART, "file", offset=1)


@pytest_twisted.ensureDeferred
async def test_a_link_under_a_parts_name(premises: DiskPremises) -> None:
    """It is not followed, within the root either: what it leads to stays as it is."""
    (premises.root / "kept").write_bytes(b"kept")
    as_another('ln -s kept "$0"', premises.root / PART)
    for offset in (0, 1):
        with pytest.raises(errors.DataMoverError):
            await premises.parts.open_part(PART, "file", offset=offset)
    with pytest.raises(errors.DataMoverError):
        await write(premises, small=True)
    assert (premises.root / "kept").read_bytes() == b"kept"


@pytest_twisted.ensureDeferred
async def test_a_file_of_anothers_under_the_old_files_name(premises: DiskPremises) -> None:
    """It is never put back in the place of the file that was about to be replaced."""
    (premises.root / "file").write_bytes(b"old")
    as_another(LAY, premises.root / f"{PART}{OLD}", b"theirs")
    await fill(premises.parts, PART, b"new")

    async def prove(path: str) -> None:
        if path == "file":
            raise errors.ChecksumMismatch("it is not what was sent")

    with pytest.raises(errors.ChecksumMismatch):
        await premises.parts.place_part(PART, "file", size=3, replace=True, prove=prove)
    file = premises.root / "file"
    assert not file.exists() or file.read_bytes() == b"old"
    await fill(premises.parts, PART, b"new")
    await give_name(premises.parts, PART, "file", replace=True)
    assert file.read_bytes() == b"new"


@pytest_twisted.ensureDeferred
async def test_a_mount_that_tells_other_owners(tmp_path: Path) -> None:
    """Where files that the service makes are told as another's, the next attempt goes on with them all the same."""
    with mounted(tmp_path / "mount", uid=NOBODY, gid=NOBODY, umask="0000") as mount:
        pool = LOCAL.open(settings(mount.url), LOCAL.options(), reactor)
        place = part_files(pool)
        await fill(place, PART, SECRET)
        assert (mount.at / PART).stat().st_uid == NOBODY
        await fill(place, PART, SECRET, offset=len(SECRET))
        assert (mount.back / PART).read_bytes() == SECRET * 2
        assert os.listdir(mount.at) == [PART]
        os.link(mount.back / PART, mount.back / "another")
        with pytest.raises(errors.SizeMismatch):
            await place.open_part(PART, "file", offset=1)
        await pool.close()
