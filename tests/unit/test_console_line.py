"""The line that is typed at the console: editing, looking back, and what Tab offers."""

import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.bounds.console import LONGEST_LINE, MOST_HISTORY_LINES
from datamover.console.terminal.completion import CursorContext, Offer, cursor_context
from datamover.console.terminal.display import Display
from datamover.console.terminal.history import Histories, History, Recall, kept
from datamover.console.terminal.keys import UNREADABLE, Keys
from datamover.console.terminal.line import EditedLine
from datamover.console.width import width


@given(st.text(max_size=40), st.lists(st.sampled_from(["left", "right", "home", "end", "word_left", "word_right"])))
def test_moving_changes_nothing(text: str, steps: list[str]) -> None:
    """Wherever the cursor goes, the text is the same."""
    line = EditedLine(text)
    for step in steps:
        getattr(line, step)()
    assert line.text == text


@pytest.mark.parametrize(
    ("key", "before", "after", "expected"),
    [
        ("backspace", "ae\u0301", "b", ("a", "b")),
        ("delete", "a", "e\u0301b", ("a", "b")),
        ("left", "a漢", "", ("a", "漢")),
        ("kill_before", "ab", "cd", ("", "cd")),
        ("kill_after", "ab", "cd", ("ab", "")),
        ("kill_word_before", "hold('a b", "c", ("hold('a ", "c")),
        ("kill_part_before", "hold('arch", "'", ("hold('", "'")),
        ("kill_part_after", "hold(", "'arch')", ("hold(", "')")),
        ("word_left", "hold('arch", "", ("hold('", "arch")),
        ("word_right", "", "hold('arch", ("hold", "('arch")),
        ("backspace", "", "a", ("", "a")),
        ("delete", "a", "", ("a", "")),
    ],
)
def test_editing(key: str, before: str, after: str, expected: tuple[str, str]) -> None:
    """Each key does what it does in a shell, to whole characters as one sees them."""
    line = EditedLine(before, after)
    getattr(line, key)()
    assert (line.before, line.after) == expected


def test_what_was_cut_comes_back() -> None:
    """Ctrl-Y inserts what was cut last."""
    line = EditedLine("one two")
    line.kill_word_before()
    line.home()
    line.yank()
    assert line.text == "twoone "


def test_a_line_that_is_too_long() -> None:
    """It is refused until it is cleared: a line that lacks its end must not run."""
    line = EditedLine("x" * LONGEST_LINE)
    line.insert("y")
    assert line.text == "x" * LONGEST_LINE
    assert "longer than" in line.refused
    line.clear()
    assert not line.refused


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"a", ["a"]),
        ("é漢".encode(), ["é", "漢"]),
        (b"\xe9a", [UNREADABLE, "a"]),
        (b"\xc3\r", [UNREADABLE, "enter"]),
        (b"\r\n", ["enter"]),
        (b"\r\0", ["enter"]),
        (b"\n\n", ["enter", "enter"]),
        (b"\x1c", ["unknown"]),
        ("\u202e".encode(), ["unknown"]),
    ],
)
def test_keys(sent: bytes, keys: list[str]) -> None:
    """Bytes become characters, ends of lines one key, and what does not print no character."""
    reader = Keys()
    assert [key for byte in sent for key in reader.read(bytes([byte]), None)] == keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CursorContext("")),
        ("jo", CursorContext("jo")),
        ("jobs(", CursorContext("", call="jobs")),
        ("jobs('FA", CursorContext("FA", "'", "jobs")),
        ('hold("a", "b', CursorContext("b", '"', "hold", 1)),
        ("jobs('a, b', sta", CursorContext("sta", call="jobs", position=1)),
        ("jobs(label='x', status='F", CursorContext("F", "'", "jobs", 0, "status")),
        ("jobs(label = ", CursorContext("", call="jobs", keyword="label")),
        ("submit({'a': 'b", CursorContext("b", "'", "", 0, "", bracket=True)),
        ("len(jobs(1), ca", CursorContext("ca", call="len", position=1)),
        ("hold('it\\'s", CursorContext("it\\'s", "'", "hold")),
        ("a == b", CursorContext("b")),
        ("jobs(1 == b", CursorContext("b", call="jobs")),
        ("2 + 2 # jo", CursorContext("", bracket=True)),
        (") jo", CursorContext("jo")),
    ],
)
def test_where_the_cursor_is(text: str, expected: CursorContext) -> None:
    """A line is read up to the cursor, however little of it makes sense yet."""
    assert cursor_context(text) == expected


@given(st.text(alphabet="ab'\"()[]{}=,\\# ", max_size=40))
def test_any_line_has_a_place(text: str) -> None:
    """Whatever is typed, the word before the cursor is the end of it."""
    found = cursor_context(text)
    assert text.endswith(found.word)


def test_what_choices_have_in_common() -> None:
    """Tab goes as far as all choices agree."""
    assert Offer("r", ["retry(", "resume("]).common == "re"
    assert Offer("x", []).common == ""


def test_history_is_kept(tmp_path: Path) -> None:
    """Lines come back in the next session, for their owner alone, no more than are bounded."""
    history = Histories(tmp_path / "histories").of("../operator")
    for number in range(3 * MOST_HISTORY_LINES):
        history.add(f"line {number}")
    [file] = (tmp_path / "histories").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    again = History(file)
    assert again.lines == [f"line {number}" for number in range(2 * MOST_HISTORY_LINES, 3 * MOST_HISTORY_LINES)]
    assert len(file.read_text().splitlines()) <= 2 * MOST_HISTORY_LINES


def test_a_history_that_others_may_read_is_left_alone(tmp_path: Path) -> None:
    """A file whose permissions somebody opened is neither read nor written."""
    file = tmp_path / "operator"
    file.write_text("before\n")
    file.chmod(0o644)
    history = History(file)
    history.add("after")
    assert file.read_text() == "before\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jobs()", True),
        ("", False),
        (" jobs()", False),
        ("submit('https://h/a?sig=secret', 'archive:a')", False),
        ("submit('https://me:secret@h/a', 'archive:a')", False),
        ("login(password='x')", False),
        ("a\x1bb", False),
    ],
)
def test_what_is_kept(line: str, expected: bool) -> None:
    """No line that shows a secret, none that begins with a blank."""
    assert kept(line) is expected


def test_looking_back(tmp_path: Path) -> None:
    """Up and down lead through what was typed, and back to what was being typed."""
    recall = Recall(History(tmp_path / "one"))
    for line in ("first", "second", "second"):
        recall.add(line)
    assert recall.older("half") == "second"
    assert recall.older("second") == "first"
    assert recall.older("first") is None
    assert recall.newer() == "second"
    assert recall.newer() == "half"
    assert recall.newer() is None
    assert recall.search("s") == (1, "second")
    assert recall.search("s", 1) == (0, "first")
    assert recall.search("x") is None


@given(st.text(max_size=120).filter(str.isprintable), st.integers(0, 120), st.integers(20, 80))
def test_the_line_has_one_row(text: str, cursor: int, columns: int) -> None:
    """However long a line is, what is drawn of it has one row, and the cursor is in it."""
    written: list[bytes] = []
    display = Display(written.append, "xterm", {})
    display.size = (columns, 24)
    line = EditedLine()
    line.set(text, min(cursor, len(text)))
    display.draw(">>> ", line)
    shown = b"".join(written).decode().removeprefix("\r").partition("\x1b")[0]
    assert shown.startswith(">>> ")
    assert width(shown) < columns


@pytest.mark.parametrize("character", ["a", "é", "漢"])
def test_a_long_line_is_drawn_fast(character: str) -> None:
    """The longest line, drawn from its end, takes a few milliseconds: others' calls wait meanwhile."""
    display = Display(lambda data: None, "xterm", {})
    began = time.process_time()
    display.draw(">>> ", EditedLine(character * LONGEST_LINE))
    assert time.process_time() - began < 0.05
