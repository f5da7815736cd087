"""Paths below a destination's root."""

import ntpath
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.errors import PathNotAllowed
from datamover.web.paths import check_path, is_into


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        (".", ""),
        ("./", ""),
        ("file", "file"),
        ("a/b/file.csv", "a/b/file.csv"),
        ("a/", "a/"),
        ("a//", "a/"),
        ("a/.", "a/"),
        ("a/./b//c", "a/b/c"),
        ("./a", "a"),
        ("...", "..."),
        ("a..b/..c", "a..b/..c"),
        ("ü/☃ .csv", "ü/☃ .csv"),
        ("%41%2e%2e", "%41%2e%2e"),
        ("C:\\x", "C:\\x"),
        (".datamover", ".datamover"),
        ("n" * 255, "n" * 255),
        ("é" * 127 + "n", "é" * 127 + "n"),
        ("/".join(["n" * 255] * 16), "/".join(["n" * 255] * 16)),
    ],
)
def test_taken(text: str, path: str) -> None:
    """A path below the root is returned without "." and doubled "/"; its last "/" stays."""
    assert check_path(text, key="path", destination="archive") == path
    assert check_path(path, key="path", destination="archive") == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("../x", "leaves destination 'archive'"),
        ("..", "leaves destination 'archive'"),
        ("a/../../x", "leaves destination 'archive'"),
        ("a/..", "leaves destination 'archive'"),
        ("a/../b", "leaves destination 'archive'"),
        ("a/..\\b", "leaves destination 'archive'"),
        ("..\\x", "leaves destination 'archive'"),
        ("/etc/passwd", "begins with '/'"),
        ("/", "begins with '/'"),
        ("//x", "begins with '/'"),
        ("a\0b", "NUL"),
        ("a%00b", "NUL"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85", "control characters"),
        ("a\udc80", "surrogates"),
        ("\ud83d/x", "surrogates"),
        (".datamover-7-abc.part", "kept for files on their way"),
        ("a/.datamover-x/b", "kept for files on their way"),
        ("n" * 256, "more than 255 bytes"),
        ("a/" + "é" * 128, "more than 255 bytes"),
        ("/".join(["n" * 255] * 16) + "/n", "longer than 4096 bytes"),
    ],
)
def test_refused(text: str, said: str) -> None:
    """A path that leads out, or that no disk could hold, is refused with its key and the reason."""
    with pytest.raises(PathNotAllowed) as caught:
        check_path(text, key="files[3].path", destination="archive")
    assert caught.value.message.startswith("files[3].path: ")
    assert said in caught.value.message
    assert caught.value.fault == 1004
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_the_sentence() -> None:
    """A refusal names the key, the value and the destination."""
    with pytest.raises(PathNotAllowed, match=r"^files\[3\]\.path: '\.\./x' leaves destination 'archive'$"):
        check_path("../x", key="files[3].path", destination="archive")


def test_braces_are_just_braces() -> None:
    """Braces in names are not taken for places in a message."""
    with pytest.raises(PathNotAllowed, match=r"'\.\./\{0\}' leaves destination 'a\{b\}'"):
        check_path("../{0}", key="path", destination="a{b}")


@pytest.mark.parametrize(("path", "into"), [("", True), ("a/", True), ("a", False), ("a/b", False)])
def test_into(path: str, into: bool) -> None:
    """A path that is empty or ends in "/" is a directory to put files into."""
    assert is_into(path) is into


_PIECES = ["a", "..", ".", "", "/", "\0", "%00", "é", "b\\..", "..\\b", "n" * 255, ".datamover-", "\n"]


@given(st.lists(st.sampled_from(_PIECES)).map("/".join))
def test_never_outside(text: str) -> None:
    """Whatever is asked for, a path that is taken stays below the root and means what was written."""
    try:
        path = check_path(text, key="path", destination="archive")
    except PathNotAllowed:
        return
    assert check_path(path, key="path", destination="archive") == path
    assert posixpath.normpath(posixpath.join("/root", path)) == posixpath.normpath(posixpath.join("/root", text))
    for module in (posixpath, ntpath):  # As servers on Windows read it, too.
        assert module.normpath(module.join("/root", path)).replace("\\", "/").startswith("/root")
