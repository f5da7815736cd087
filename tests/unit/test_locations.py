"""Where paths lead, and how they lie to each other."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamover.registry.locations import PATIENCE, Location, find, find_all


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Directories a/b/c, and links that lead to them in several ways."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    for name, target in {
        "to-b": "a/b",
        "absolute": f"{tmp_path}/a/b",
        "around": "a/b/../../a/./b//",
        "twice": "to-b",
        "dangling": "a/missing/x",
        "round": "round",
    }.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


def at(tree: Path, path: str) -> Location:
    return find(f"{tree}/{path}")


@pytest.mark.parametrize(
    "path", ["a/b", "a//b/", "a/./b", "a/x/../b", "to-b", "absolute", "around", "twice", "twice/c/.."]
)
def test_names_of_one_directory(tree: Path, path: str) -> None:
    """Whatever links and dots are on the way, it is the same directory, and lies in the same ones."""
    found, expected = at(tree, path), at(tree, "a/b")
    assert (found.path, found.identity, found.above) == (expected.path, expected.identity, expected.above)
    assert found.path == os.path.realpath(tree / "a/b")
    assert found.below(at(tree, "")) == ["a", "b"]
    assert found.below(at(tree, "a/b")) == []
    assert found.below(at(tree, "a/b/c")) is None
    assert at(tree, f"{path}/c").below(found) == ["c"]


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("missing", "missing"),
        ("a/new/x", "a/new/x"),
        ("to-b/new", "a/b/new"),
        ("dangling", "a/missing/x"),
        ("round/x", "round/x"),
    ],
)
def test_what_does_not_exist_is_known_by_its_name(tree: Path, path: str, real: str) -> None:
    """As far as there is something, links are followed; the rest is as it is written."""
    found = at(tree, path)
    assert found.path == f"{os.path.realpath(tree)}/{real}"
    assert found.below(at(tree, "")) == real.split("/")
    assert found.identity == at(tree, real).identity
    assert found.identity != at(tree, f"{real}2").identity


def test_what_the_way_to_something_is(tree: Path) -> None:
    """A directory above, one that holds a link on the way, and the thing itself."""
    (tree / "links").mkdir()
    (tree / "links/b").symlink_to("../a/b")
    found = find(f"{tree}/links/b/c")
    assert all(at(tree, path).is_way_to(found) for path in ("", "a", "a/b", "a/b/c", "links", "to-b"))
    assert not any(at(tree, path).is_way_to(found) for path in ("a/b/c/d", "a/b/other", "a2"))
    assert find("/").is_way_to(found)
    assert found.below(find("/")) == found.path.split("/")[1:]
    assert found.below(at(tree, "links")) is None
    assert find("/").below(find("/")) == []


def test_a_name_in_another_spelling_is_a_hard_link_away(tree: Path) -> None:
    """Two names of one file are one location, as two spellings are where case makes no difference."""
    (tree / "key").write_text("x")
    os.link(tree / "key", tree / "KEY")
    assert at(tree, "key").identity == at(tree, "KEY").identity


@pytest.fixture
def silent_mount(tmp_path: Path) -> Iterator[Path]:
    """A mount whose server has stopped answering."""
    source, mounted = tmp_path / "source", tmp_path / "mounted"
    source.mkdir()
    mounted.mkdir()
    command = ["rclone", "mount", "--config", "", "--attr-timeout", "0s", str(source), str(mounted)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 20
        while not mounted.is_mount():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.send_signal(signal.SIGSTOP)
        try:
            yield mounted
        finally:
            server.send_signal(signal.SIGCONT)
            subprocess.run(["fusermount3", "-u", "-z", str(mounted)], check=True)
            server.terminate()


def test_what_does_not_answer_is_left_out(tree: Path, silent_mount: Path) -> None:
    """It holds up neither those that do nor, for longer than some time, who asks."""
    began = time.monotonic()
    found = find_all([str(tree / "a"), f"{silent_mount}/x", str(tree / "to-b")])
    assert time.monotonic() - began < PATIENCE + 30
    assert set(found) == {str(tree / "a"), str(tree / "to-b")}
