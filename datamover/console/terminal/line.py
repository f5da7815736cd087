"""The line that is being typed: its text, its cursor, and how keys edit it. Pure.

The cursor steps over whole clusters, so that what combines with a character is never parted from it. Words end where
letters and digits do.
"""

from datamover.bounds.console import LONGEST_LINE
from datamover.console.width import clusters


class EditedLine:
    """Text before and after the cursor."""

    def __init__(self, before: str = "", after: str = "") -> None:
        self.before = before
        self.after = after
        self.killed = ""
        """What was cut last, for ``yank``."""
        self.refused = ""
        """Why the line is not run although it is entered."""

    @property
    def text(self) -> str:
        return self.before + self.after

    def set(self, text: str, cursor: int | None = None) -> None:
        """Have another text, with the cursor behind it or at a position."""
        cursor = len(text) if cursor is None else cursor
        self.before, self.after = text[:cursor], text[cursor:]

    def press(self, key: str) -> bool:
        """Take a key by its name; return False for one that does nothing to a line."""
        change = _KEYS.get(key)
        if change is not None:
            change(self)
        return change is not None

    def clear(self) -> None:
        self.before = self.after = self.refused = ""

    def insert(self, text: str) -> None:
        if len(self.before) + len(self.after) + len(text) > LONGEST_LINE:
            self.refused = f"the line is longer than {LONGEST_LINE} characters"
            return
        self.before += text

    def left(self) -> None:
        cluster = _last(self.before)
        self.before, self.after = self.before[: len(self.before) - len(cluster)], cluster + self.after

    def right(self) -> None:
        cluster = next(clusters(self.after), "")
        self.before, self.after = self.before + cluster, self.after[len(cluster) :]

    def home(self) -> None:
        self.before, self.after = "", self.text

    def end(self) -> None:
        self.before, self.after = self.text, ""

    def word_left(self) -> None:
        start = _word_start(self.before)
        self.before, self.after = self.before[:start], self.before[start:] + self.after

    def word_right(self) -> None:
        end = _word_end(self.after)
        self.before, self.after = self.before + self.after[:end], self.after[end:]

    def backspace(self) -> None:
        self.before = self.before[: len(self.before) - len(_last(self.before))]

    def delete(self) -> None:
        self.after = self.after[len(next(clusters(self.after), "")) :]

    def kill_before(self) -> None:
        """Cut all before the cursor."""
        self.killed, self.before = self.before or self.killed, ""

    def kill_after(self) -> None:
        """Cut all behind the cursor."""
        self.killed, self.after = self.after or self.killed, ""

    def kill_word_before(self) -> None:
        """Cut the word before the cursor, which begins behind a blank, as a terminal's own Ctrl-W does."""
        text = self.before.rstrip()
        start = max(text.rfind(" "), text.rfind("\t")) + 1
        self.killed, self.before = self.before[start:] or self.killed, self.before[:start]

    def kill_part_before(self) -> None:
        """Cut the letters and digits before the cursor."""
        start = _word_start(self.before)
        self.killed, self.before = self.before[start:] or self.killed, self.before[:start]

    def kill_part_after(self) -> None:
        """Cut the letters and digits behind the cursor."""
        end = _word_end(self.after)
        self.killed, self.after = self.after[:end] or self.killed, self.after[end:]

    def yank(self) -> None:
        self.insert(self.killed)


_KEYS = {
    "left": EditedLine.left,
    "right": EditedLine.right,
    "home": EditedLine.home,
    "end": EditedLine.end,
    "word-left": EditedLine.word_left,
    "word-right": EditedLine.word_right,
    "backspace": EditedLine.backspace,
    "delete": EditedLine.delete,
    "kill-before": EditedLine.kill_before,
    "kill-after": EditedLine.kill_after,
    "kill-word": EditedLine.kill_word_before,
    "kill-part": EditedLine.kill_part_before,
    "kill-part-after": EditedLine.kill_part_after,
    "yank": EditedLine.yank,
}


def _last(text: str) -> str:
    # What combines is looked at from the end: a long line has thousands of clusters.
    start = max(0, len(text) - 32)
    *_, last = clusters(text[start:]) if text else ("",)
    return last


def _word_start(text: str) -> int:
    start = len(text)
    while start and not text[start - 1].isalnum():
        start -= 1
    while start and text[start - 1].isalnum():
        start -= 1
    return start


def _word_end(text: str) -> int:
    end = 0
    while end < len(text) and not text[end].isalnum():
        end += 1
    while end < len(text) and text[end].isalnum():
        end += 1
    return end
