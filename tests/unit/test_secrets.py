"""Sealing what rows must keep secret."""

import os
import threading
from pathlib import Path

import pytest

from datamover.errors import StartError
from datamover.sealing.keyring import Cipher

URL = "https://example.org/x?signature=ü%20secret"


def test_made_at_first_start(tmp_path: Path) -> None:
    """The first start makes a key that only its owner may read; later starts open what earlier ones sealed."""
    path = tmp_path / "new" / "key"
    sealed = Cipher.from_file(path).seal(URL)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["key"]
    assert b"secret" not in sealed
    assert Cipher.from_file(path).open(sealed) == URL


def test_made_once(tmp_path: Path) -> None:
    """Processes that start at the same time agree on one key."""
    ciphers: list[Cipher] = []
    starts = [threading.Thread(target=lambda: ciphers.append(Cipher.from_file(tmp_path / "key"))) for _ in range(8)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert {ciphers[0].open(cipher.seal("x")) for cipher in ciphers} == {"x"}


def test_another_key(tmp_path: Path) -> None:
    """What another key sealed is refused in a sentence that names the file."""
    sealed = Cipher.from_file(tmp_path / "one").seal(URL)
    with pytest.raises(StartError, match="two is not the key"):
        Cipher.from_file(tmp_path / "two").open(sealed)
    with pytest.raises(StartError):
        Cipher.from_file(tmp_path / "two").open(b"garbage")


def test_loose_permissions(tmp_path: Path) -> None:
    """A key that others may read is refused, with the command that mends it; the group may."""
    path = tmp_path / "key"
    Cipher.from_file(path)
    path.chmod(0o640)
    Cipher.from_file(path)
    path.chmod(0o644)
    with pytest.raises(StartError, match="chmod 0600"):
        Cipher.from_file(path)


def test_unusable(tmp_path: Path) -> None:
    """A file that is no key, and one that cannot be read, are refused."""
    path = tmp_path / "key"
    path.touch(0o600)
    with pytest.raises(StartError, match="not a key"):
        Cipher.from_file(path)
    with pytest.raises(StartError, match="directory"):
        Cipher.from_file(tmp_path)
    with pytest.raises(StartError, match="File exists"):
        Cipher.from_file(path / "below")
