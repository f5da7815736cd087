"""Directories and secret files have the modes that they need, whatever the umask is."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamover.errors import StartError
from datamover.security import secret_files
from datamover.security.directories import CLOSED, PASSABLE, make, make_data


@pytest.fixture(params=[0, 0o022, 0o077, 0o777], autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories(tmp_path: Path) -> None:
    """What is made has its mode, what stands above lets others pass; what is there stays as it is."""
    make(tmp_path / "a/b/data", PASSABLE)
    make(tmp_path / "a/b/data/inside", CLOSED)
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/data", "a/b/data/inside")] == [
        0o755,
        0o755,
        0o711,
        0o700,
    ]
    (tmp_path / "a").chmod(0o750)
    make(tmp_path / "a", PASSABLE)
    assert mode(tmp_path / "a") == 0o750


def test_no_directory(tmp_path: Path) -> None:
    """A file in the place of a directory is told."""
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"service\.data_directory: .*/file is not a directory"):
        make_data(tmp_path / "file")


def test_secrets(tmp_path: Path) -> None:
    """A secret file is its owner's alone, and its owner can read it."""
    secret_files.make(tmp_path / "data/key", b"secret")
    assert mode(tmp_path / "data/key") == 0o600
    assert mode(tmp_path / "data") == 0o711
    assert secret_files.read(tmp_path / "data/key") == b"secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory another's")
@pytest.mark.parametrize("linked", [False, True])
def test_a_directory_that_another_made(tmp_path: Path, linked: bool) -> None:
    """Where everybody may make directories the service uses none that another user made, or linked to."""
    everybodys = tmp_path / "tmp"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    (everybodys / "real").mkdir()
    found = everybodys / "data"
    found.symlink_to("real") if linked else found.mkdir()
    os.chown(found, 65533, 65533, follow_symlinks=False)
    with pytest.raises(StartError, match="was made by user id 65533, where everybody may make directories"):
        make_data(found)
    os.chown(found, 0, 0, follow_symlinks=False)
    make_data(found)
    everybodys.chmod(0o755)
    os.chown(found, 65533, 65533, follow_symlinks=False)
    make_data(found)
